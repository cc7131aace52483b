"""The configuration in force: what a reload changes, and what waits for a restart."""

from __future__ import annotations

from typing import Any

from agent.config import Config
from agent.live_config import LIVE, LiveConfig


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def keys(tree: dict[str, Any], at: str = "") -> list[str]:
    found = []
    for name, value in tree.items():
        found.append(f"{at}{name}")
        if isinstance(value, dict):
            found += keys(value, f"{at}{name}.")
    return found


def test_what_a_page_may_set_for_itself_is_live_as_a_whole() -> None:
    live = LiveConfig(Config())
    new = config(
        microphone={"enabled": True, "hotwords": {"funasr": 20}},
        listen=[{"port": 9999}, {"port": 9998, "tls": True}],
        auth="open",
    )
    change = live.plan(new)
    assert change.config == new
    assert set(change.live) == {"microphone.enabled", "microphone.hotwords", "listen", "auth.mode"}
    live.take(change)
    assert live.plan(Config()).live == change.live, "words that are taken away are a change too"


def test_every_live_key_is_a_key_of_the_schema() -> None:
    assert set(LIVE) - set(keys(Config().model_dump())) == set()


def test_a_live_key_takes_effect_and_another_one_waits_for_a_restart() -> None:
    live = LiveConfig(Config())
    new = config(
        recognition={"max_end_silence_ms": 400, "vad": {"window_size_ms": 300}},
        inference={"job_limit_s": 7, "queue": 5},
        events={"history": 99},
    )
    change = live.plan(new)
    assert live.current == Config()
    live.take(change)
    assert live.current == config(
        recognition={"max_end_silence_ms": 400, "vad": {"window_size_ms": 300}},
        inference={"job_limit_s": 7},
    )
    assert set(change.live) == {
        "recognition.max_end_silence_ms",
        "recognition.vad.window_size_ms",
        "inference.job_limit_s",
    }
    assert set(live.restart) == {"events.history", "inference.queue"}


def test_a_key_that_is_put_back_waits_for_nothing_any_more() -> None:
    live = LiveConfig(Config())
    live.take(live.plan(config(inference={"queue": 5})))
    assert live.restart == ("inference.queue",)
    live.take(live.plan(Config()))
    assert live.restart == ()


def test_a_refusal_keeps_what_is_in_force_and_lasts_until_a_reload_is_taken() -> None:
    live = LiveConfig(Config())
    live.refuse("line 3 is no YAML")
    assert (live.current, live.refusal) == (Config(), "line 3 is no YAML")
    live.take(live.plan(Config()))
    assert live.refusal == ""
