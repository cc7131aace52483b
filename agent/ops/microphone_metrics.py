"""Metrics of the box's own microphone."""

from __future__ import annotations

from functools import partial

from agent.audio.source import SourceState
from agent.ops.metrics import Metrics
from agent.pipeline.microphone import MUTED, OFF, Microphone
from agent.types import SAMPLE_RATE


def add_microphone_metrics(metrics: Metrics, microphone: Microphone) -> None:
    """Register them; they are read at each scrape."""

    def is_in(state: str) -> float:
        return float(microphone.state == state)

    states = [*(state.value for state in SourceState), MUTED, OFF]
    metrics.gauges(
        "microphone_state",
        "1 for the state that the microphone is in",
        "state",
        {state: partial(is_in, state) for state in states},
    )
    metrics.gauge("microphone_level_dbfs", "RMS of the last moment", lambda: microphone.level_dbfs)
    metrics.gauge(
        "microphone_alive",
        "1 while it delivers or is known to be reopening",
        lambda: float(microphone.alive()),
    )
    metrics.count(
        "microphone_audio_seconds",
        "Audio that came from the device",
        lambda: microphone.samples / SAMPLE_RATE,
    )
    metrics.count(
        "microphone_dropped_samples",
        "Samples lost: the device was away, or the box too slow (16 kHz)",
        lambda: microphone.dropped_samples,
    )
    metrics.count(
        "microphone_overflows", "Times that audio was not taken", lambda: microphone.overflows
    )
    metrics.count("microphone_clipped_samples", "Samples at full scale", lambda: microphone.clipped)
    metrics.count("microphone_reopened", "Times that audio came back", lambda: microphone.reopened)
