"""`recognition.vad`: FunASR's own parameters, from the configuration to the decisions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.assembly import engine_settings, session_settings
from agent.config import Config, Vad
from agent.config_loader import load_config
from agent.engine.endpoint import EndpointDetector, VadParameters
from agent.errors import ConfigError

SHARED = Path(__file__).parents[3] / "shared" / "models" / "fsmn-vad" / "config.yaml"


def given(*settings: str) -> dict[str, Any]:
    """What the VAD is told for these `--set`."""
    return dict(engine_settings(load_config(None, {"PATH": ""}, settings))["vad"].vad)


def test_every_parameter_can_be_set() -> None:
    assert list(Vad.model_fields) == [field.name for field in fields(VadParameters)]


@pytest.mark.skipif(not SHARED.is_file(), reason="the published FSMN-VAD is not here (../shared)")
def test_the_parameters_and_defaults_are_the_published_ones() -> None:
    published = yaml.safe_load(SHARED.read_text(encoding="utf-8"))["model_conf"]
    assert VadParameters().to_json() == published


def test_config_yaml_shows_the_published_defaults() -> None:
    lines = (Path(__file__).parents[2] / "config.yaml").read_text(encoding="utf-8").splitlines()
    for name, default in VadParameters().to_json().items():
        (line,) = [line for line in lines if line.strip().startswith(f"{name}:")]
        assert yaml.safe_load(line.rpartition("(")[2].rstrip(")")) == default, line


def test_what_is_not_set_is_left_to_the_model() -> None:
    assert given() == {"max_end_silence_time": 800, "max_single_segment_time": 60000}
    published = {"speech_noise_thres": 0.8, "lookback_time_start_point": 300}
    made = VadParameters.from_config(published, given("recognition.vad.speech_noise_thres=0.5"))
    assert (made.speech_noise_thres, made.lookback_time_start_point) == (0.5, 300)


def test_funasrs_names_win_over_the_agents_own() -> None:
    assert given("recognition.max_end_silence_ms=900")["max_end_silence_time"] == 900
    both = given("recognition.max_end_silence_ms=900", "recognition.vad.max_end_silence_time=400")
    assert both["max_end_silence_time"] == 400


def test_a_published_model_conf_can_be_given_as_it_is() -> None:
    values = VadParameters().to_json()
    config = Config.model_validate({"recognition": {"vad": values}})
    made = VadParameters.from_config({}, engine_settings(config)["vad"].vad)
    assert made == VadParameters()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("speech_noise_thres=2", "less than or equal to 1"),
        ("speech_noise_thresh=0.5", "did you mean speech_noise_thres"),
        ("window_size_ms=0", "greater than or equal to 10"),
        ("detect_mode=2", "0 or 1"),
        ("sil_pdf_ids=[]", "at least 1 item"),
        ("sil_pdf_ids=[-1]", "greater than or equal to 0"),
        ("sample_rate=8000", "16000"),
        ("max_end_silence_time=soon", "valid integer"),
    ],
)
def test_a_value_that_can_not_be_is_named(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"recognition\.vad\.") as caught:
        given(f"recognition.vad.{setting}")
    assert says in str(caught.value)


SPEECH = [False] * 100 + [True] * 60 + [False] * 300 + [True] * 60 + [False] * 300


def bounds(**parameters: Any) -> list[int]:
    detector = EndpointDetector(VadParameters.from_config({}, parameters))
    return [b.ms for b in detector.accept(SPEECH) + detector.finish([])]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("detect_mode", 0),
        ("max_end_silence_time", 4000),
        ("window_size_ms", 300),
        ("sil_to_speech_time_thres", 60),
        ("speech_to_sil_time_thres", 60),
        ("do_extend", 0),
        ("lookback_time_start_point", 400),
        ("lookahead_time_end_point", 300),
        ("max_single_segment_time", 1000),
        ("frame_in_ms", 20),
    ],
)
def test_a_parameter_changes_the_boundaries(parameter: str, value: int) -> None:
    assert bounds(**{parameter: value}) != bounds()


def test_a_silence_shorter_than_the_release_ends_at_once_and_in_order() -> None:
    found = bounds(max_end_silence_time=0, do_extend=0)
    assert found == sorted(found)
    assert max(found) <= 10 * len(SPEECH)


def test_finals_are_rewritten_by_what_the_composition_chose() -> None:
    settings = session_settings(Config())
    assert settings.itn is not None
    assert settings.itn("你好", "zh") == "你好"
