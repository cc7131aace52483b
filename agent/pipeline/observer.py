"""What the pipeline tells the metrics, and the wrappers that time the models."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from agent.types import (
    SAMPLE_RATE,
    Int16,
    ModelSet,
    OfflineAsrModel,
    OnlineAsrModel,
    OnlineAsrStream,
    Recognition,
    StreamOptions,
    VadBoundary,
    VadModel,
    VadStream,
)

Clock = Callable[[], float]


class PipelineObserver(Protocol):
    """Measurements, called from the loop or from a lane's thread."""

    def inference(self, role: str, seconds: float, audio_s: float) -> None:
        """One call of a model: how long it took, for how much audio."""

    def partial_latency(self, seconds: float) -> None:
        """From the arrival of the samples that completed a partial to its event."""

    def final_latency(self, seconds: float) -> None:
        """From the arrival of the samples that ended a segment to its final."""

    def dropped(self, seconds: float) -> None:
        """Audio that never reached the recogniser."""

    def stream_failed(self) -> None:
        """A recogniser failed inside a stream."""


class NoObserver:
    """Measures nothing."""

    def inference(self, role: str, seconds: float, audio_s: float) -> None:
        """Ignored."""

    def partial_latency(self, seconds: float) -> None:
        """Ignored."""

    def final_latency(self, seconds: float) -> None:
        """Ignored."""

    def dropped(self, seconds: float) -> None:
        """Ignored."""

    def stream_failed(self) -> None:
        """Ignored."""


def timed(
    models: ModelSet, observer: PipelineObserver, clock: Clock = time.perf_counter
) -> ModelSet:
    """The same models, each call of which is measured."""
    return replace(
        models,
        vad=_TimedVad(models.vad, observer, clock),
        online=models.online and _TimedOnline(models.online, observer, clock),
        offline=models.offline and _TimedOffline(models.offline, observer, clock),
    )


class _TimedVad:
    def __init__(self, model: VadModel, observer: PipelineObserver, clock: Clock) -> None:
        self._model, self._observer, self._clock = model, observer, clock

    def start_stream(self) -> VadStream:
        return _TimedVadStream(self._model.start_stream(), self._observer, self._clock)


class _TimedVadStream:
    def __init__(self, stream: VadStream, observer: PipelineObserver, clock: Clock) -> None:
        self._stream, self._observer, self._clock = stream, observer, clock

    def accept(self, samples: Int16) -> list[VadBoundary]:
        started = self._clock()
        boundaries = self._stream.accept(samples)
        self._observer.inference("vad", self._clock() - started, _seconds(samples))
        return boundaries

    def finish(self) -> list[VadBoundary]:
        return self._stream.finish()


class _TimedOnline:
    def __init__(self, model: OnlineAsrModel, observer: PipelineObserver, clock: Clock) -> None:
        self._model, self._observer, self._clock = model, observer, clock

    def start_stream(self, options: StreamOptions) -> OnlineAsrStream:
        return _TimedOnlineStream(self._model.start_stream(options), self._observer, self._clock)


class _TimedOnlineStream:
    """Charges a hop with all the audio taken since the last one."""

    def __init__(self, stream: OnlineAsrStream, observer: PipelineObserver, clock: Clock) -> None:
        self._stream, self._observer, self._clock = stream, observer, clock

    def accept(self, samples: Int16) -> Recognition | None:
        started = self._clock()
        read = self._stream.accept(samples)
        self._observer.inference("asr_online", self._clock() - started, _seconds(samples))
        return read

    def finish(self) -> Recognition:
        started = self._clock()
        read = self._stream.finish()
        self._observer.inference("asr_online", self._clock() - started, 0.0)
        return read


class _TimedOffline:
    def __init__(self, model: OfflineAsrModel, observer: PipelineObserver, clock: Clock) -> None:
        self._model, self._observer, self._clock = model, observer, clock

    @property
    def can_bias(self) -> bool:
        return self._model.can_bias

    def remarks(self, options: StreamOptions) -> tuple[str, ...]:
        return self._model.remarks(options)

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        started = self._clock()
        read = self._model.decode(batch, options)
        audio_s = sum(_seconds(samples) for samples in batch)
        self._observer.inference("asr_offline", self._clock() - started, audio_s)
        return read


def _seconds(samples: Int16) -> float:
    return len(samples) / SAMPLE_RATE
