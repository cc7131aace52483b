"""What the box says of itself is read in Chinese, by code; what has none stays English."""

from __future__ import annotations

from typing import Any

from playwright.async_api import expect

from agent.said import by_code, say, say_all
from tests.gui_integration.conftest import OpenPage
from tests.gui_integration.fake_agent import FakeAgent
from tests.gui_integration.test_page_views import wears

HIGH = say(
    "load_high",
    "{step}: {cause}",
    step=say("step_nothing", "new streams are refused"),
    cause=say_all(
        [say("load_lane", "the lane is full"), say("load_finals", "finals come late")], " and "
    ),
)
NEWER = say("of_a_newer_box", "<b>{n}</b> of something new", n=3)
CHINESE = "不再接受新的音频流：已打开的音频流几乎占满实时识别；最终文字延迟"


def check(name: str, reason: str) -> dict[str, Any]:
    told = {"name": name, "status": "degraded", "reason": reason, "since": 1.0}
    return {**told, "said": by_code(reason)}


async def test_health_is_read_in_the_language_of_the_page(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    plain = {"name": "old", "status": "degraded", "reason": "said without a code", "since": 1.0}
    checks = [check("load", HIGH), check("new", NEWER), plain]
    fake_agent.health = {"status": "degraded", "checks": checks}
    for language, first in (("zh", CHINESE), ("en", str(HIGH))):
        visit = await open_page(fake_agent.url, init_script=wears("light", language))
        await expect(visit.page.locator("#problems li")).to_have_text(
            [first, "<b>3</b> of something new", "said without a code"]
        )
        assert visit.console_errors == []


async def test_remarks_on_a_recording_stand_above_its_text(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    remark = say("hotwords_no_input", "hotwords are ignored: {model} has no input", model="小模型")
    fake_agent.remarks = {"remarks": [remark], "said": [by_code(remark)]}
    visit = await open_page(fake_agent.url, init_script=wears("light", "zh"))
    await visit.talk()
    await expect(visit.page.locator(".section .note")).to_have_text("热词无效：小模型 不支持热词")
    await visit.talk()
    await visit.state("idle")


async def test_an_error_of_the_box_names_its_kind_and_keeps_its_words(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    fake_agent.refuse = {"code": "overloaded", "message": "100 streams are open already"}
    visit = await open_page(fake_agent.url, init_script=wears("light", "zh"))
    await visit.talk()
    await expect(visit.page.locator("#notice")).to_have_text(
        "设备正忙，请稍后再试（100 streams are open already）"
    )
