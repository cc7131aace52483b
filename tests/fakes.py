"""Fake models: speech is whatever is loud, and its text is told by its level.

A sample of amplitude 1000 * k (k in 1..9) reads as the digit k, one digit for each 100 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from agent.types import Int16, ModelSet, Recognition, StreamOptions, VadBoundary

HOP = 1600
END_SILENCE_HOPS = 3


def tone(level: int, hops: int) -> Int16:
    """`hops` * 100 ms at amplitude 1000 * level."""
    return np.full(HOP * hops, 1000 * level, np.int16)


def silence(hops: int) -> Int16:
    """`hops` * 100 ms of zeros."""
    return np.zeros(HOP * hops, np.int16)


def read_digits(samples: Int16) -> str:
    """One digit for each whole loud 100 ms."""
    whole = len(samples) - len(samples) % HOP
    levels = [round(float(h.mean()) / 1000) for h in samples[:whole].reshape(-1, HOP)]
    return "".join(str(level) for level in levels if level > 0)


class FakeVad:
    """A start at the first loud hop (told one hop late), an end after three quiet hops."""

    def start_stream(self) -> FakeVadStream:
        return FakeVadStream()


class FakeVadStream:
    def __init__(self) -> None:
        self._hops = 0
        self._quiet = 0
        self._loud = 0
        self._speaking = False

    def accept(self, samples: Int16) -> list[VadBoundary]:
        loud = bool(len(samples)) and int(np.abs(samples).max()) >= 500
        self._hops += 1
        self._loud = self._loud + 1 if loud else 0
        self._quiet = 0 if loud else self._quiet + 1
        if not self._speaking and self._loud == 2:
            self._speaking = True
            return [VadBoundary("start", (self._hops - 2) * 100)]
        if self._speaking and self._quiet == END_SILENCE_HOPS:
            self._speaking = False
            return [VadBoundary("end", (self._hops - END_SILENCE_HOPS) * 100)]
        return []

    def finish(self) -> list[VadBoundary]:
        return [VadBoundary("end", self._hops * 100)] if self._speaking else []


class FakeOnline:
    """Reads the digits heard so far, growing with each 200 ms."""

    def start_stream(self, options: StreamOptions) -> FakeOnlineStream:
        return FakeOnlineStream()


class FakeOnlineStream:
    def __init__(self) -> None:
        self._heard: list[Int16] = []
        self._decided = 0

    def accept(self, samples: Int16) -> Recognition | None:
        self._heard.append(samples)
        heard = np.concatenate(self._heard)
        hops = len(heard) // (2 * HOP)
        if hops == self._decided:
            return None
        self._decided = hops
        return Recognition(read_digits(heard[: hops * 2 * HOP]))

    def finish(self) -> Recognition:
        return Recognition(read_digits(np.concatenate([*self._heard, np.zeros(0, np.int16)])))


class FakeOffline:
    """Reads a segment's digits; `fail_on` raises for a segment with that text, `gate` blocks."""

    def __init__(self, fail_on: str = "", gate: threading.Event | None = None) -> None:
        self._fail_on = fail_on
        self._gate = gate

    can_bias = False

    def remarks(self, options: StreamOptions) -> tuple[str, ...]:
        return ("hotwords are ignored: it is a fake",) if options.hotwords else ()

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        if self._gate is not None:
            self._gate.wait(20)
        read = [read_digits(samples) for samples in batch]
        if self._fail_on and self._fail_on in read:
            raise RuntimeError("the graph broke")
        return [Recognition(text, tuple(text)) for text in read]


class FakePunctuation:
    """Ends every text with a full stop."""

    def punctuate(self, text: str) -> str:
        return f"{text}。"

    def start_stream(self) -> FakePunctuation:
        return self


def fake_models(
    *,
    online: bool = True,
    offline: bool = True,
    fail_on: str = "",
    gate: threading.Event | None = None,
) -> ModelSet:
    """A set of fakes."""
    return ModelSet(
        vad=FakeVad(),
        online=FakeOnline() if online else None,
        offline=FakeOffline(fail_on, gate) if offline else None,
        ids={"vad": "fake-vad"},
    )
