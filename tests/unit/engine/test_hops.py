"""Runs that several streams share: exact, or not made."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.engine import ort
from agent.engine.base import EngineSettings
from agent.engine.cif import CifState
from agent.engine.families import paraformer_online
from agent.engine.hops import DecoderHop, HopGraphs
from agent.engine.together import Batchable
from agent.errors import InferenceError
from agent.types import StreamOptions
from tests.unit.engine.graphs import Files, mvn

F, D, V, KEPT = 560, 4, 6, 3
"""Sizes. The graphs reduce by maxima, which no order of summing can change."""
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT32


def product(x: str, weight: str, out: str, *, int8: bool) -> list:
    """Nodes of x times weight, in fp32 or by dynamic int8."""
    if not int8:
        return [helper.make_node("MatMul", [x, weight], [out])]
    return [
        helper.make_node("DynamicQuantizeLinear", [x], [f"{out}_q", f"{out}_s", f"{out}_z"]),
        helper.make_node("MatMulInteger", [f"{out}_q", f"{weight}_8", f"{out}_z"], [f"{out}_i"]),
        helper.make_node("Cast", [f"{out}_i"], [f"{out}_f"], to=FLOAT),
        helper.make_node("Mul", [f"{out}_s", f"{weight}_scale"], [f"{out}_factor"]),
        helper.make_node("Mul", [f"{out}_f", f"{out}_factor"], [out]),
    ]


def weights(name: str, rows: int, columns: int) -> list:
    values = np.random.default_rng(rows).standard_normal((rows, columns)) / np.sqrt(rows)
    return [
        numpy_helper.from_array(values.astype(np.float32), name),
        numpy_helper.from_array((values * 40).astype(np.int8), f"{name}_8"),
        numpy_helper.from_array(np.float32(1 / 40), f"{name}_scale"),
    ]


def ports(kinds: dict[str, tuple[int, list]]) -> list:
    return [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]


def model(nodes: list, inputs: list, outputs: list, constants: list) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opset = helper.make_opsetid("", 13)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def encoder(*, int8: bool = False) -> bytes:
    nodes = [
        *product("speech", "w", "enc", int8=int8),
        helper.make_node("ReduceMax", ["enc"], ["mean"], axes=[2], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["alphas"]),
        helper.make_node("Identity", ["speech_lengths"], ["enc_len"]),
    ]
    inputs = ports({"speech": (FLOAT, ["B", "T", F]), "speech_lengths": (INT, ["B"])})
    outputs = ports(
        {"enc": (FLOAT, ["B", "T", D]), "enc_len": (INT, ["B"]), "alphas": (FLOAT, ["B", "T"])}
    )
    return model(nodes, inputs, outputs, weights("w", F, D))


def decoder(*, int8: bool = False) -> bytes:
    nodes = [
        helper.make_node("ReduceMax", ["enc"], ["context"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["in_cache_0"], ["past"], axes=[2], keepdims=0),
        helper.make_node("Unsqueeze", ["past", "one"], ["past3"]),
        helper.make_node("Add", ["acoustic_embeds", "context"], ["heard"]),
        helper.make_node("Add", ["heard", "past3"], ["state"]),
        *product("state", "v", "logits", int8=int8),
        helper.make_node("ArgMax", ["logits"], ["sample_ids"], axis=2, keepdims=0),
        helper.make_node("Transpose", ["state"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["in_cache_0", "turned"], ["out_cache_0"], axis=2),
    ]
    inputs = ports(
        {
            "enc": (FLOAT, ["B", "T", D]),
            "enc_len": (INT, ["B"]),
            "acoustic_embeds": (FLOAT, ["B", "L", D]),
            "acoustic_embeds_len": (INT, ["B"]),
            "in_cache_0": (FLOAT, ["B", D, KEPT]),
        }
    )
    outputs = ports(
        {
            "logits": (FLOAT, ["B", "L", V]),
            "sample_ids": (TensorProto.INT64, ["B", "L"]),
            "out_cache_0": (FLOAT, ["B", D, "N"]),
        }
    )
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    return model(nodes, inputs, outputs, [*weights("v", D, V), one])


def hop_graphs(*, int8_encoder: bool = False, int8_decoder: bool = False) -> HopGraphs:
    return HopGraphs(
        ort.open_graph(encoder(int8=int8_encoder), name="encoder", threads=1),
        ort.open_graph(decoder(int8=int8_decoder), name="decoder", threads=1),
        {"cache_0": KEPT},
    )


def windows(count: int, frames: int = 20) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((frames, F)) * (1 + i)).astype(np.float32) for i in range(count)]


def test_a_shared_run_gives_each_what_it_gets_alone():
    graphs = hop_graphs()
    shared = graphs.encode(windows(5))
    for window, hop in zip(windows(5), shared, strict=True):
        (single,) = graphs.encode([window])
        assert np.array_equal(single.enc, hop.enc)
        assert np.array_equal(single.alphas, hop.alphas)
        assert (hop.enc.shape, hop.alphas.shape, int(hop.length[0])) == ((1, 20, D), (20,), 20)


def test_a_decoder_hop_keeps_its_own_cache():
    graphs = hop_graphs()
    rng = np.random.default_rng(2)
    hops = [
        DecoderHop(
            encoded,
            rng.standard_normal((2, D)).astype(np.float32),
            {"cache_0": np.full((1, D, KEPT), i, np.float32)},
        )
        for i, encoded in enumerate(graphs.encode(windows(3)))
    ]
    for hop, shared in zip(hops, graphs.decode(hops), strict=True):
        (single,) = graphs.decode([hop])
        assert np.array_equal(single.logits, shared.logits)
        assert np.array_equal(single.caches["cache_0"], shared.caches["cache_0"])
        assert shared.caches["cache_0"].shape == (1, D, KEPT)
        assert shared.caches["cache_0"].base is None  # nothing of its mates is kept alive


def test_fp32_is_proven_to_be_exact_and_dynamic_int8_is_not():
    assert hop_graphs().proven_batch(8, F, D) == 8
    assert hop_graphs(int8_encoder=True).proven_batch(8, F, D) == 1
    assert hop_graphs(int8_decoder=True).proven_batch(8, F, D) == 1


def test_a_window_that_is_no_number_is_refused_and_named():
    bad = windows(1)[0] * np.float32(np.nan)
    with pytest.raises(InferenceError, match="encoder: its output alphas is not a number"):
        hop_graphs().encode([*windows(1), bad])


def load() -> paraformer_online.ParaformerOnline:
    config = (
        b"frontend_conf: {fs: 16000, n_mels: 80, lfr_m: 7, lfr_n: 6}\n"
        b"predictor_conf: {threshold: 1.0, tail_threshold: 0.45}\n"
    )
    tokens = b'["<blank>", "<s>", "</s>", "a", "b", "c"]'
    files = Files(
        {"config.yaml": config, "tokens.json": tokens, "am.mvn": mvn(F)},
        {"model": encoder(), "decoder": decoder()},
    )
    return paraformer_online.load(files, EngineSettings())


def test_the_family_says_how_many_streams_may_share_a_run():
    loaded = load()
    assert isinstance(loaded, Batchable)
    assert loaded.proven_batch(4) == 4


def test_streams_hand_their_runs_over_with_what_must_be_alike():
    keys = []

    def together(key, run, item):
        keys.append(key[1:])
        return run([item])[0]

    audio = (np.random.default_rng(3).standard_normal(16000) * 3000).astype(np.int16)
    expected = load().start_stream(StreamOptions())
    expected.accept(audio)
    stream = load().sharing(together).start_stream(StreamOptions())
    stream.accept(audio)
    assert stream.finish() == expected.finish()
    assert keys[0] == ("encoder", 20)
    assert {key[0] for key in keys} == {"encoder", "decoder"}
    assert all(len(key) == 3 for key in keys if key[0] == "decoder")


def test_cif_of_a_row_of_a_shared_run_is_that_of_a_run_alone():
    graphs = hop_graphs()
    for window, hop in zip(windows(3), graphs.encode(windows(3)), strict=True):
        (single,) = graphs.encode([window])
        fired = [
            CifState(D, 1.0, 0.45).fire(found.enc[0], found.alphas, is_last=True)
            for found in (single, hop)
        ]
        assert np.array_equal(*fired)
