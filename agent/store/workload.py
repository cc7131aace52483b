"""Work for a model of any role, long enough to be timed: one clip repeated, or a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from agent.store.roles import Role
from agent.types import SAMPLE_RATE, Int16, StreamOptions

TEXT = (
    "今天天气怎么样我们明天早上九点在会议室开会请把 report 和 slides 都发给我"
    "你觉得这个方案可以吗如果没有问题那我们就按计划进行"
)
"""For a punctuation model: 50 tokens, as a recogniser puts them out."""
CHUNK_MS = 100
_CHUNK = SAMPLE_RATE * CHUNK_MS // 1000
_MS = 1000


def tiled(clip: Int16, seconds: float) -> Int16:
    """`clip` [n] repeated and cut to so many seconds."""
    length = max(1, round(seconds * SAMPLE_RATE))
    return np.tile(clip, -(-length // len(clip)))[:length]


def do_work(role: Role, model: Any, audio: Int16, options: StreamOptions | None = None) -> None:
    """Have a model read the audio [n], or punctuate `TEXT`; what it makes of it is dropped.

    Raises what the model raises.
    """
    options = options or StreamOptions()
    if role == "asr_offline":
        model.decode([audio], options)
    elif role == "punctuation":
        model.punctuate(TEXT)
    else:
        for _ in steps(role, model, audio, options):
            pass


def steps(
    role: Role, model: Any, audio: Int16, options: StreamOptions, chunk: int = _CHUNK
) -> Iterator[None]:
    """A stream of the audio, `chunk` samples a step; the last step is its end."""
    stream = model.start_stream() if role == "vad" else model.start_stream(options)
    for first in range(0, len(audio), chunk):
        stream.accept(audio[first : first + chunk])
        yield
    stream.finish()
    yield


def hop_samples(options: StreamOptions) -> int:
    """Samples of one hop of a streaming recogniser."""
    return options.chunk_size[1] * 60 * SAMPLE_RATE // _MS
