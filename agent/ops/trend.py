"""The last hour of load and latency, for the chart of the page."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

EVERY_S = 10.0
KEPT_S = 3600.0


@dataclass(frozen=True)
class Sample:
    """The box at one moment."""

    time: float
    """UNIX seconds."""
    cpu_percent: float
    load_percent: float
    """Share of the online lane that the open streams and one more need when all speak."""
    streams: int
    partials_ms: float | None
    """One partial in 20 was later than this; None where there was none lately."""
    finals_ms: float | None


class Trend:
    """A bounded series of samples."""

    def __init__(
        self, measure: Callable[[float], Sample], clock: Callable[[], float] = time.time
    ) -> None:
        """`measure` gets the time and looks at the box."""
        self._measure = measure
        self._clock = clock
        self._due = float("-inf")
        self._samples: deque[Sample] = deque(maxlen=int(KEPT_S / EVERY_S))

    def look(self) -> None:
        """Take a sample when one is due; also after the clock was set back."""
        now = self._clock()
        if now >= self._due or now < self._due - EVERY_S:
            self._due = now + EVERY_S
            self._samples.append(self._measure(now))

    def to_json(self) -> dict[str, Any]:
        """Body of /api/v1/trend."""
        return {"every_s": EVERY_S, "samples": [asdict(sample) for sample in self._samples]}
