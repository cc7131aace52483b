"""The protocols that benchmarks/streams.py speaks, and what it notes of a stream."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

RATE = 16000
GOLDEN = (math.sqrt(5) - 1) / 2
"""Start times a golden part of a hop apart never fall together."""
FLUSH_S = 0.03
"""A partial so shortly before the end of its segment was made by it, not by a hop."""


@dataclass(frozen=True)
class Plan:
    """One run."""

    url: str
    protocol: str
    mode: str
    streams: int
    seconds: float
    chunk_s: float
    hop_s: float
    lookahead_s: float
    in_phase: bool
    drain_s: float

    @property
    def starts(self) -> list[float]:
        """Start of each stream in seconds behind the first."""
        step = 0.0 if self.in_phase else self.hop_s * GOLDEN
        return [i * step for i in range(self.streams)]


@dataclass
class Outcome:
    """What happened to one stream; times in seconds from its start."""

    place: int
    partials: list[tuple[float, float | None]] = field(default_factory=list)
    """Arrival, and how far the audio was read where the protocol says it."""
    finals: list[tuple[float, float, float]] = field(default_factory=list)
    """Arrival, end of the speech, arrival of the news that it had ended."""
    stopped: dict[int, float] = field(default_factory=dict)
    behind: list[float] = field(default_factory=list)
    """How late this client sent each chunk."""
    end_delay: float | None = None
    problem: str = ""


class AgentProtocol:
    """This project's own `/api/v1/stream`."""

    path = "/api/v1/stream"
    subprotocols: Sequence[str] = ()

    def __init__(self, plan: Plan) -> None:
        self._mode = plan.mode

    def hello(self, name: str) -> list[str]:
        return [json.dumps({"type": "start", "sample_rate": RATE, "mode": self._mode})]

    def frame(self, first: int, samples: np.ndarray) -> bytes:
        return struct.pack("<Q", first) + samples.tobytes()

    def bye(self) -> str:
        return json.dumps({"type": "stop"})

    def take(self, text: str, at: float, outcome: Outcome) -> bool:
        """Note a message; whether the stream has ended."""
        said = json.loads(text)
        kind = said["type"]
        if kind == "partial":
            outcome.partials.append((at, said["end_ms"] / 1000))
        elif kind == "voice_stopped":
            outcome.stopped[said["segment_id"]] = at
            while outcome.partials and at - outcome.partials[-1][0] < FLUSH_S:
                outcome.partials.pop()
        elif kind == "final":
            told = outcome.stopped.get(said["segment_id"], at)
            outcome.finals.append((at, said["end_ms"] / 1000, told))
        elif kind == "error":
            outcome.problem = said["message"]
        return kind in ("stopped", "error")


class FunasrProtocol:
    """FunASR's runtime protocol."""

    path = "/"
    subprotocols: Sequence[str] = ("binary",)

    def __init__(self, plan: Plan) -> None:
        self._mode = plan.mode
        self._interval = max(1, round(plan.hop_s / plan.chunk_s))

    def hello(self, name: str) -> list[str]:
        config = {
            "mode": self._mode,
            "chunk_size": [5, 10, 5],
            "chunk_interval": self._interval,
            "encoder_chunk_look_back": 4,
            "decoder_chunk_look_back": 1,
            "audio_fs": RATE,
            "wav_format": "pcm",
            "wav_name": name,
            "is_speaking": True,
            "itn": False,
        }
        return [json.dumps(config)]

    def frame(self, first: int, samples: np.ndarray) -> bytes:
        return samples.tobytes()

    def bye(self) -> str:
        return json.dumps({"is_speaking": False, "is_end": True})

    def take(self, text: str, at: float, outcome: Outcome) -> bool:
        """Note a message; whether the stream has ended."""
        said = json.loads(text)
        if said.get("error"):
            outcome.problem = str(said["error"])
        if said.get("is_end") or said.get("error"):
            return True
        if "text" in said and said.get("mode") == "2pass-offline":
            outcome.finals.append((at, math.nan, at))
        elif "text" in said:
            outcome.partials.append((at, None))
        return False


class SherpaProtocol:
    """sherpa-onnx's streaming WebSocket server."""

    path = "/"
    subprotocols: Sequence[str] = ()

    def __init__(self, plan: Plan) -> None:
        pass

    def hello(self, name: str) -> list[str]:
        return []

    def frame(self, first: int, samples: np.ndarray) -> bytes:
        return (samples.astype(np.float32) / 32768).tobytes()

    def bye(self) -> str:
        return "Done"

    def take(self, text: str, at: float, outcome: Outcome) -> bool:
        """Note a message; whether the stream has ended."""
        if text == "Done!":
            return True
        outcome.partials.append((at, None))
        return False


PROTOCOLS = {"agent": AgentProtocol, "funasr": FunasrProtocol, "sherpa": SherpaProtocol}
