"""Metrics: the promised names, in both formats."""

from __future__ import annotations

import pytest

from agent.ops.metrics import Metrics, ModelLabels


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics()
    made.use_models({"vad": ModelLabels("builtin-vad", "int8", "cpu")}, {"vad": 0.25})
    return made


def text(metrics: Metrics, accept: str = "text/plain") -> str:
    return metrics.render(accept)[0].decode()


def test_load_time_and_inference_latency_carry_model_variant_and_provider(
    metrics: Metrics,
) -> None:
    metrics.inference("vad", 0.003, 0.1)
    labels = '{model="builtin-vad",provider="cpu",variant="int8"}'
    body = text(metrics)
    assert f"model_load_time_seconds{labels} 0.25" in body
    assert f"inference_latency_seconds_count{labels} 1.0" in body


def test_real_time_factor_is_work_per_audio(metrics: Metrics) -> None:
    metrics.inference("vad", 0.25, 1.0)
    metrics.inference("vad", 0.75, 1.0)
    assert 'funasr_agent_real_time_factor{role="vad"} 0.5' in text(metrics)


def test_real_time_factor_is_zero_before_any_audio(metrics: Metrics) -> None:
    assert 'funasr_agent_real_time_factor{role="asr_offline"} 0.0' in text(metrics)


def test_latencies_losses_and_failures_are_counted(metrics: Metrics) -> None:
    metrics.partial_latency(0.02)
    metrics.final_latency(0.2)
    metrics.dropped(1.5)
    metrics.stream_failed()
    body = text(metrics)
    assert "funasr_agent_partial_latency_seconds_count 1.0" in body
    assert "funasr_agent_final_latency_seconds_count 1.0" in body
    assert "funasr_agent_audio_dropped_seconds_total 1.5" in body
    assert "funasr_agent_stream_failures_total 1.0" in body


def test_a_gauge_is_read_at_each_scrape(metrics: Metrics) -> None:
    value = [1.0]
    metrics.gauge("sessions", "Open streams", lambda: value[0])
    assert "funasr_agent_sessions 1.0" in text(metrics)
    value[0] = 2.0
    assert "funasr_agent_sessions 2.0" in text(metrics)


def test_openmetrics_is_given_when_asked_for(metrics: Metrics) -> None:
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_role_without_a_named_model_is_not_a_latency_series(metrics: Metrics) -> None:
    metrics.inference("asr_online", 0.1, 1.0)
    assert "inference_latency_seconds_count" not in text(metrics)
