"""Dynamic int8 products stream by stream: the same numbers, in company too."""

from __future__ import annotations

import numpy as np
import pytest

from agent.engine import ort
from agent.engine.hops import HopGraphs
from agent.store.rewrite_by_stream import products_by_stream
from agent.store.rewrite_signed import NothingToDo
from tests.unit.engine.test_hops import KEPT, D, F, decoder, encoder, windows


def graphs(encode: bytes, decode: bytes) -> HopGraphs:
    opened = (ort.open_graph(data, name="g", threads=1) for data in (encode, decode))
    return HopGraphs(*opened, {"cache_0": KEPT})


def test_streams_that_share_a_rewritten_run_get_what_the_original_gives_each_alone():
    original = graphs(encoder(int8=True), decoder(int8=True))
    rewritten = graphs(
        products_by_stream(encoder(int8=True), "e"), products_by_stream(decoder(int8=True), "d")
    )
    assert original.proven_batch(4, F, D) == 1
    assert rewritten.proven_batch(4, F, D) == 4
    for window, shared in zip(windows(4), rewritten.encode(windows(4)), strict=True):
        assert np.array_equal(original.encode([window])[0].enc, shared.enc)


def test_a_graph_without_such_products_is_left_as_it_is():
    with pytest.raises(NothingToDo):
        products_by_stream(encoder(), "e")
