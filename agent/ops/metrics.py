"""Prometheus metrics of the agent; names are part of the contract."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_SHORT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_LATENCY = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)
_PREFIX = "funasr_agent_"


@dataclass(frozen=True)
class ModelLabels:
    """What names a model in the metrics."""

    model: str
    variant: str
    provider: str

    def values(self) -> tuple[str, str, str]:
        """In the order of the labels."""
        return self.model, self.variant, self.provider


class Metrics:
    """Owner of the registry; an observer of the pipeline (`agent.pipeline.observer`)."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ("model", "variant", "provider")
        self._load_time = Gauge(
            "model_load_time_seconds",
            "Verification and loading of a model",
            names,
            registry=self._registry,
        )
        self._inference = Histogram(
            "inference_latency_seconds",
            "One call of a model",
            names,
            buckets=_SHORT,
            registry=self._registry,
        )
        self._audio = self._counter("audio_seconds", "Audio given to a model", ("role",))
        self._busy = self._counter("inference_seconds", "Time spent in a model", ("role",))
        self._partial = Histogram(
            _PREFIX + "partial_latency_seconds",
            "From the arrival of the audio that completed a partial to its event",
            buckets=_LATENCY,
            registry=self._registry,
        )
        self._final = Histogram(
            _PREFIX + "final_latency_seconds",
            "From the arrival of the audio that ended a segment to its final",
            buckets=_LATENCY,
            registry=self._registry,
        )
        self._dropped = self._counter("audio_dropped_seconds", "Audio that was lost")
        self._failures = self._counter("stream_failures", "Streams ended by a failure")
        self._commands = self._counter("commands", "Spoken commands that were heard", ("name",))
        self._hooks = self._counter("command_hooks", "What commands set off", ("kind", "result"))
        self._roles: Mapping[str, ModelLabels] = {}
        self._totals: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self.gauges(
            "real_time_factor",
            "Seconds of work per second of audio since the start",
            "role",
            {role: partial(self._factor, role) for role in ("vad", "asr_online", "asr_offline")},
        )
        ProcessCollector(registry=self._registry)

    def use_models(
        self, roles: Mapping[str, ModelLabels], load_times_s: Mapping[str, float]
    ) -> None:
        """Name the models that serve from now on."""
        self._roles = dict(roles)
        for role, labels in roles.items():
            self._load_time.labels(*labels.values()).set(load_times_s.get(role, 0.0))

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that is read at each scrape."""
        Gauge(_PREFIX + name, text, registry=self._registry).set_function(read)

    def gauges(
        self, name: str, text: str, label: str, reads: Mapping[str, Callable[[], float]]
    ) -> None:
        """Values that are read at each scrape, one a label value."""
        gauge = Gauge(_PREFIX + name, text, (label,), registry=self._registry)
        for value, read in reads.items():
            gauge.labels(value).set_function(read)

    def count(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that only grows and is read at each scrape."""
        self._registry.register(_Count(_PREFIX + name, text, read))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type: Prometheus text, or OpenMetrics when `accept` asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def inference(self, role: str, seconds: float, audio_s: float) -> None:
        """One call of a model."""
        labels = self._roles.get(role)
        if labels is not None:
            self._inference.labels(*labels.values()).observe(seconds)
        self._audio.labels(role).inc(audio_s)
        self._busy.labels(role).inc(seconds)
        with self._lock:
            busy, audio = self._totals.get(role, (0.0, 0.0))
            self._totals[role] = (busy + seconds, audio + audio_s)

    def partial_latency(self, seconds: float) -> None:
        """From the arrival of the audio that completed a partial to its event."""
        self._partial.observe(seconds)

    def final_latency(self, seconds: float) -> None:
        """From the arrival of the audio that ended a segment to its final."""
        self._final.observe(seconds)

    def dropped(self, seconds: float) -> None:
        """Audio that never reached the recogniser."""
        self._dropped.inc(seconds)

    def stream_failed(self) -> None:
        """A recogniser failed inside a stream."""
        self._failures.inc()

    def command(self, name: str) -> None:
        """A spoken command was heard."""
        self._commands.labels(name).inc()

    def command_hook(self, kind: str, result: str) -> None:
        """A hook was delivered (ok), or was not (failed, dropped)."""
        self._hooks.labels(kind, result).inc()

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self._registry)

    def _factor(self, role: str) -> float:
        busy, audio = self._totals.get(role, (0.0, 0.0))
        return busy / audio if audio else 0.0


class _Count(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, value=self._read())


def temperature_c() -> float:
    """The hottest sensor of the box in degrees Celsius; NaN where there is none."""
    read = getattr(psutil, "sensors_temperatures", None)
    sensors = read() if read else {}
    values = [entry.current for entries in sensors.values() for entry in entries]
    return max(values, default=float("nan"))
