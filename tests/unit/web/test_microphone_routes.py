"""The microphone over REST."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.web.conftest import Box


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"microphone": {"enabled": True, **getattr(request, "param", {})}}


async def test_the_state_is_told(box: Box) -> None:
    async with box.client.get("/api/v1/microphone") as answer:
        told = await answer.json()
    assert (answer.status, told["enabled"], told["muted"]) == (200, True, False)


async def test_mute_and_gain_are_set_together_or_alone(box: Box) -> None:
    for sent, expected in [
        ({"muted": True, "gain_db": 3.5}, (True, 3.5)),
        ({"gain_db": -6}, (True, -6)),
        ({"muted": False}, (False, -6)),
    ]:
        async with box.client.post("/api/v1/microphone", json=sent) as answer:
            told = await answer.json()
        assert (answer.status, (told["muted"], told["gain_db"])) == (200, expected)


@pytest.mark.parametrize(
    "body",
    [
        *("", "[]", "{", "{}", '{"muted": "yes"}', '{"mute": true}'),
        *('{"enabled": 1}', '{"enabled": "on"}'),
        *('{"gain_db": 41}', '{"gain_db": true}', '{"gain_db": 1e999}', '{"gain_db": "3"}'),
    ],
)
async def test_anything_else_is_refused(box: Box, body: str) -> None:
    async with box.client.post("/api/v1/microphone", data=body) as answer:
        error = (await answer.json())["error"]
    assert answer.status == 400
    assert error["message"]


@pytest.mark.parametrize("settings", [{"enabled": False}], indirect=True)
async def test_a_box_that_does_not_listen_says_how_to_change_that(box: Box) -> None:
    async with box.client.post("/api/v1/microphone", json={"muted": True}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (409, "audio_device")
    assert '{"enabled": true}' in error["message"]


@pytest.mark.parametrize("settings", [{"enabled": False}], indirect=True)
async def test_it_is_turned_on_and_off_over_rest(box: Box) -> None:
    for sent, expected in [
        ({"enabled": True, "gain_db": 3}, (True, "opening", 3)),
        ({"enabled": False}, (False, "off", 3)),
    ]:
        async with box.client.post("/api/v1/microphone", json=sent) as answer:
            told = await answer.json()
        assert answer.status == 200
        assert (told["enabled"], told["state"], told["gain_db"]) == expected


@pytest.mark.parametrize("settings", [{"enabled": False, "switch": False}], indirect=True)
async def test_an_owner_may_keep_the_switch_to_the_configuration(box: Box) -> None:
    async with box.client.post("/api/v1/microphone", json={"enabled": True}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (409, "audio_device")
    assert "microphone.switch" in error["message"]
    async with box.client.get("/api/v1/microphone") as answer:
        told = await answer.json()
    assert (told["enabled"], told["can_switch"]) == (False, False)


async def test_a_foreign_page_may_not_unmute(box: Box) -> None:
    headers = {"Origin": "http://evil.example"}
    async with box.client.post(
        "/api/v1/microphone", json={"muted": False}, headers=headers
    ) as answer:
        assert answer.status == 403
