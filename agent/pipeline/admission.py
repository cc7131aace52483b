"""Admission of live streams by measured cost: what one more would mean for those that are open.

Costs are measured where they arise: a stream's own work per second of audio (VAD, features), and
the runs of its hops, which get cheaper for each stream the more of them share one. From these
follows the share of the online lane that all streams need when all of them speak. Where that, or
the lateness that is seen, comes near the limit, new streams get less: steps that go back by
themselves. Used on the loop only, but for `ran`.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from agent.errors import Overloaded
from agent.pipeline.costs import Mean, RunCost, tail
from agent.said import say, say_all
from agent.types import RecognitionMode, StreamOptions

UNIT_S = 0.06
"""Seconds of one unit of `StreamOptions.chunk_size`."""
LONGEST_HOP = 20
"""Units that a hop is stretched to at most."""
HOLD_S = 3.0
"""How long pressure must stay below a step before it is taken back."""
MARGIN = 0.05
"""How far below."""
_SEEN = 512
"""Latencies kept at most."""
_RETRY_S = (2, 30)
"""Bounds of Retry-After."""


class Step(IntEnum):
    """What a new stream gets, from everything to nothing."""

    EVERYTHING = 0
    ONE_PASS = 1
    LONGER_HOP = 2
    NOTHING = 3


_AT = {Step.ONE_PASS: 0.75, Step.LONGER_HOP: 0.9, Step.NOTHING: 1.0}
"""Pressure from which a step holds."""


@dataclass(frozen=True)
class LoadLimits:
    """When others would be late."""

    max_load: float = 0.85
    """Share of the online lane that open streams may need when all speak."""
    late_ms: float = 600.0
    """Latest that one partial in twenty may be."""
    final_late_ms: float = 1000.0
    """Latest that one final in twenty may be before new streams go without a second pass."""
    degrade: bool = True
    """Whether new streams get less before they are refused."""


@dataclass(frozen=True)
class Admission:
    """What a new stream gets."""

    options: StreamOptions
    reasons: tuple[str, ...] = ()
    """What it does not get, and why."""


@dataclass(frozen=True)
class Pressure:
    """How near the limit the box is; 1 is at it."""

    load: float = 0.0
    """Share of the online lane needed with one more stream, all speaking."""
    late_s: float = 0.0
    """Latency that one partial in twenty exceeded lately."""
    final_late_s: float = 0.0
    """The same of finals."""


class LoadMeter:
    """Measures what streams cost and decides what a new one gets."""

    def __init__(
        self,
        workers: int,
        batch: int,
        limits: LoadLimits = LoadLimits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self.batch = batch
        """Hops that may share a run."""
        self.limits = limits
        self._clock = clock
        self._open: dict[str, tuple[StreamOptions, float]] = {}
        self._own = Mean()
        self._runs: dict[str, RunCost] = {}
        self._unread: deque[tuple[str, int, float]] = deque(maxlen=4 * _SEEN)
        self._late: deque[tuple[float, float]] = deque(maxlen=_SEEN)
        self._final_late: deque[tuple[float, float]] = deque(maxlen=_SEEN)
        self._lengths = Mean()
        self._step = Step.EVERYTHING
        self._calm_since: float | None = None

    @property
    def step(self) -> Step:
        """What a new stream gets now."""
        return self._step

    def ran(self, kind: str, items: int, seconds: float) -> None:
        """A run of a graph for `items` hops took so long. From any thread."""
        self._unread.append((kind, items, seconds))

    def worked(self, seconds: float, audio_s: float) -> None:
        """A stream's own work on so much audio, without such runs."""
        if audio_s > 0:
            self._own.add(seconds, audio_s)

    def partial_latency(self, seconds: float) -> None:
        """From the arrival of the audio that completed a partial to its event."""
        self._late.append((self._clock(), seconds))

    def final_latency(self, seconds: float) -> None:
        """From the arrival of the audio that ended a segment to its final."""
        self._final_late.append((self._clock(), seconds))

    def opened(self, key: str, options: StreamOptions) -> None:
        """A live stream is open."""
        self._open[key] = (options, self._clock())

    def closed(self, key: str) -> None:
        """It has ended; unknown keys are passed over."""
        options_since = self._open.pop(key, None)
        if options_since is not None:
            self._lengths.add(self._clock() - options_since[1], 1.0)
            # How late it was with more streams says nothing of those that are left.
            self._late.clear()
            self._final_late.clear()

    def pressure(self, extra: StreamOptions | None = None) -> Pressure:
        """Now, with one more stream of the options `extra`."""
        self._read()
        streams = [options for options, _ in self._open.values()]
        streams.append(extra or StreamOptions())
        need = sum(self._need(options, len(streams)) for options in streams)
        return Pressure(
            need / self._workers, tail(self._late, self._clock()), self._tail_of_finals()
        )

    def update(self) -> Step:
        """Judge the load; the step that holds from now on."""
        if not self._open:
            self._step, self._calm_since = Step.EVERYTHING, None
            return self._step
        pressure = self.pressure()
        wanted = self._wanted(pressure, 0.0)
        now = self._clock()
        if wanted >= self._step:
            self._step, self._calm_since = wanted, None
            return self._step
        below = self._wanted(pressure, MARGIN)
        if below >= self._step:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= HOLD_S:
            self._step, self._calm_since = Step(self._step - 1), now
        return self._step

    def admit(self, options: StreamOptions) -> Admission:
        """What a new stream gets. Raises Overloaded when it would make others late."""
        step = self.update()
        too_much = self.pressure(options).load > self.limits.max_load
        if step is Step.NOTHING or (too_much and self._open):
            raise Overloaded(
                f"one more stream would make the others late ({self.reason()}); try again later",
                retry_after=self._retry_after(),
            )
        reasons: list[str] = []
        if step >= Step.ONE_PASS and options.mode is RecognitionMode.TWO_PASS:
            options = replace(options, mode=RecognitionMode.ONLINE)
            reasons.append(say("no_second_pass", "no second pass: {why}", why=self.reason()))
        back, hop, ahead = options.chunk_size
        if (
            step >= Step.LONGER_HOP
            and options.mode is not RecognitionMode.OFFLINE
            and hop < LONGEST_HOP
        ):
            longer = min(2 * hop, LONGEST_HOP)
            options = replace(options, chunk_size=(back, longer, ahead))
            reasons.append(
                say(
                    "longer_hop",
                    "a partial every {ms} ms instead of {asked}: {why}",
                    ms=round(longer * UNIT_S * 1000),
                    asked=round(hop * UNIT_S * 1000),
                    why=self.reason(),
                )
            )
        return Admission(options, tuple(reasons))

    def to_json(self) -> dict[str, Any]:
        """The load for people and programs."""
        now = self.pressure()
        return {
            "step": self._step.name.lower(),
            "live_streams": len(self._open),
            "load_with_one_more": round(now.load, 3),
            "max_load": self.limits.max_load,
            "partials_late_ms": round(1000 * now.late_s),
            "finals_late_ms": round(1000 * now.final_late_s),
            "hops_share_a_run": self.batch,
        }

    def seen_late(self) -> tuple[float | None, float | None]:
        """Seconds that one partial, and one final, in twenty took lately, however few there were;
        None where there was none."""
        late = [tail(seen, self._clock(), few=1) for seen in (self._late, self._final_late)]
        return late[0] or None, late[1] or None

    def cause(self) -> str:
        """What makes the load high, in words that stay the same while it does."""
        now, limits = self.pressure(), self.limits
        causes = []
        if now.load >= limits.max_load * (_AT[Step.ONE_PASS] - MARGIN):
            causes.append(say("load_lane", "open streams need nearly all of the online lane"))
        if now.late_s * 1000 >= limits.late_ms * (_AT[Step.ONE_PASS] - MARGIN):
            causes.append(say("load_partials", "partials come late"))
        if now.final_late_s * 1000 > limits.final_late_ms * (1 - MARGIN):
            causes.append(say("load_finals", "finals come late"))
        falling = say("load_falling", "the load is falling")
        return say_all(causes, " and ") if causes else falling

    def reason(self) -> str:
        """What the load is, in words and numbers."""
        now = self.pressure()
        words = [
            say("load_streams", "{n} streams are open", n=len(self._open)),
            say(
                "load_need",
                "with one more they would need {percent} % of the online lane (at most {most} %)",
                percent=round(100 * now.load),
                most=round(100 * self.limits.max_load),
            ),
        ]
        if now.late_s * 1000 > self.limits.late_ms * _AT[Step.ONE_PASS]:
            late = "partials are up to {ms} ms late"
            words.append(say("load_partials_late", late, ms=round(1000 * now.late_s)))
        if now.final_late_s * 1000 > self.limits.final_late_ms:
            late = "finals are up to {ms} ms late"
            words.append(say("load_finals_late", late, ms=round(1000 * now.final_late_s)))
        return say_all(words, ", ")

    def _wanted(self, now: Pressure, margin: float) -> Step:
        """The step for this pressure; with a margin, the one from which it may be taken back."""
        value = max(now.load / self.limits.max_load, now.late_s * 1000 / self.limits.late_ms)
        step = max(
            (step for step, at in _AT.items() if value >= at - margin), default=Step.EVERYTHING
        )
        if now.final_late_s * 1000 > self.limits.final_late_ms * (1 - margin):
            step = max(step, Step.ONE_PASS)
        if step is not Step.NOTHING and not self.limits.degrade:
            return Step.EVERYTHING
        return step

    def _need(self, options: StreamOptions, streams: int) -> float:
        """Cores that one of so many streams keeps busy while it speaks."""
        need = self._own.value
        if options.mode is not RecognitionMode.OFFLINE:
            share = min(self.batch, max(1, streams // self._workers))
            hop = sum(cost.per_item(share) for cost in self._runs.values())
            need += hop / (options.chunk_size[1] * UNIT_S)
        return need

    def _read(self) -> None:
        while self._unread:
            kind, items, seconds = self._unread.popleft()
            self._runs.setdefault(kind, RunCost()).add(items, seconds)

    def _tail_of_finals(self) -> float:
        return tail(self._final_late, self._clock())

    def _retry_after(self) -> int:
        """Seconds until one of the open streams can be expected to end."""
        least, most = _RETRY_S
        if not self._lengths.value:
            return 10
        return min(max(math.ceil(self._lengths.value / max(1, len(self._open))), least), most)
