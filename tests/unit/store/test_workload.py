"""Work that models are timed with."""

from __future__ import annotations

import numpy as np
import pytest

from agent.store.workload import TEXT, do_work, hop_samples, steps, tiled
from agent.types import StreamOptions


@pytest.mark.parametrize(("seconds", "samples"), [(0.1, 1600), (1.0, 16000), (2.5, 40000)])
def test_a_clip_is_repeated_or_cut_to_length(seconds: float, samples: int) -> None:
    clip = np.arange(12000, dtype=np.int16)
    audio = tiled(clip, seconds)
    assert len(audio) == samples
    assert audio[:1600].tolist() == clip[:1600].tolist()
    assert audio[-1] == clip[(samples - 1) % len(clip)]


class Model:
    """Every kind of model at once; notes what it is given."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def decode(self, batch, options):
        self.done.append(("decode", [len(audio) for audio in batch]))

    def punctuate(self, text):
        self.done.append(("punctuate", text))

    def start_stream(self, *options):
        self.done.append(("stream", options))
        return self

    def accept(self, samples):
        self.done.append(len(samples))

    def finish(self):
        self.done.append("finish")


AUDIO = np.zeros(4000, np.int16)


@pytest.mark.parametrize(
    ("role", "done"),
    [
        ("asr_offline", [("decode", [4000])]),
        ("punctuation", [("punctuate", TEXT)]),
        ("vad", [("stream", ()), 1600, 1600, 800, "finish"]),
        ("asr_online", [("stream", (StreamOptions(),)), 1600, 1600, 800, "finish"]),
    ],
)
def test_each_role_does_its_own_work(role, done) -> None:
    model = Model()
    do_work(role, model, AUDIO)
    assert model.done == done


def test_a_hop_of_audio_is_one_step() -> None:
    model, options = Model(), StreamOptions(chunk_size=(5, 2, 5))
    assert hop_samples(options) == 1920
    taken = list(steps("asr_online", model, AUDIO, options, hop_samples(options)))
    assert len(taken) == 4
    assert model.done[1:] == [1920, 1920, 160, "finish"]
