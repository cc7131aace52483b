"""G.711 against libsndfile, which has it too."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from agent.protocols.g711 import ALAW, RATE, ULAW


@pytest.mark.parametrize(("law", "table"), [("ULAW", ULAW), ("ALAW", ALAW)])
def test_every_code_is_the_sample_that_libsndfile_reads(law: str, table: np.ndarray) -> None:
    codes = io.BytesIO(bytes(range(256)))
    how = {"samplerate": RATE, "channels": 1, "format": "RAW", "subtype": law}
    samples, _ = soundfile.read(codes, dtype="int16", **how)
    assert np.array_equal(samples, table)
