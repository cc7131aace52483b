"""The service under real systemd, in a box of its own: what the unit promises."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.model_loading.tables import add_row
from tests.systemd.box import ROOT, Box
from tests.systemd.service import CONFIG, Service, Talk, recognise, wait_until

pytestmark = pytest.mark.timeout(600)

CLIP = ROOT / "tests/data/clips/zh-1.wav"
TABLE = "the service under systemd"
WATCHDOG_S = 60.0
"""WatchdogSec of the unit."""
QUICK_S = 4
SESSIONS = 10


def note(what: str, said: str) -> None:
    add_row(TABLE, (what, said))


def test_the_units_are_sound_and_little_exposed(box: Box) -> None:
    units = "funasr-agent.service funasr-agent-verify.service funasr-agent-verify.timer"
    assert box.run(f"systemd-analyze verify {units}") == ""
    said = box.run("systemd-analyze security funasr-agent --no-pager").splitlines()[-1]
    exposure = float(re.search(r"service: ([\d.]+)", said)[1])  # type: ignore[index]
    note("installed", box.installed)
    note("systemd", box.run("systemctl --version").splitlines()[0])
    note("boot", f"{box.boot_s:.1f} s")
    note("systemd-analyze verify", "prints nothing")
    note("systemd-analyze security", f"{exposure}")
    assert exposure <= 2.0


def test_a_start_ends_when_the_agent_is_ready(service: Service) -> None:
    note("systemctl start", f"{service.start_s:.2f} s")
    assert service.get("/readyz")[0] == 200
    wait_until(lambda: "Ready" in service.box.show("StatusText"), "status")
    note("STATUS", service.box.show("StatusText"))
    assert service.get("/livez", service.low_port)[0] == 200  # a port below 1024
    limits = Path("/proc", str(service.box.threads(service.pid)["python3"]), "status").read_text()
    assert "Seccomp:\t2" in limits
    assert "CapEff:\t0000000000000400" in limits  # binding ports, and no more


def test_a_clip_is_recognised(service: Service) -> None:
    text = asyncio.run(recognise(service.port, CLIP))
    own = service.box.run(f"cd /tmp && funasr-agent transcribe {copied(service.box)} 2>/dev/null")
    assert text
    assert text.replace(" ", "") == own.split(":")[-1].replace(" ", "").strip()
    note("clip over FunASR's socket", text)


HEARD = """#!/bin/sh
# What is said, and what the sandbox lets a program do.
{
    cat
    id -un
    touch /usr/heard 2>/dev/null && echo "writes to /usr"
    ls /home/owner >/dev/null 2>&1 && echo "sees /home"
    sudo -n true 2>/dev/null && echo "is root"
    echo done
} > /var/lib/funasr-agent/heard.txt
"""


def test_a_spoken_command_runs_its_program_inside_the_sandbox(service: Service) -> None:
    box = service.box
    box.write("/usr/local/bin/heard", HEARD)
    box.run("chmod 755 /usr/local/bin/heard && mkdir -p /home/owner")
    command = {"name": "time", "phrases": ["现在几点"]}
    hook = {"exec": ["/usr/local/bin/heard"], "sources": ["funasr"]}
    service.configure(commands=[command], command_hook=hook)
    box.run("systemctl reload funasr-agent")

    def names() -> list[str]:
        listed: list[str] = service.get("/api/v1/status")[1]["commands"]["names"]
        return listed

    wait_until(lambda: names() == ["time"], "reload")
    asyncio.run(recognise(service.port, CLIP))
    heard = box.tree / "var/lib/funasr-agent/heard.txt"
    wait_until(lambda: heard.exists() and heard.read_text().endswith("done\n"), "program")
    told, *can = heard.read_text(encoding="utf-8").splitlines()
    assert json.loads(told)["name"] == "time"
    assert can == ["funasr-agent", "done"]
    note("program of a spoken command", f"ran as {can[0]}: {told}")


def copied(box: Box) -> str:
    (box.tree / "var/lib/clip.wav").write_bytes(CLIP.read_bytes())
    return "/var/lib/clip.wav"


def test_a_killed_agent_comes_back(service: Service) -> None:
    before, restarts = service.pid, service.restarts
    service.box.run(f"kill -KILL {before}")
    took = wait_until(lambda: service.pid not in (0, before) and service.is_ready(), "restart")
    assert service.restarts == restarts + 1
    note("kill -KILL until ready again", f"{took:.1f} s")


def test_a_hanging_lane_is_restarted_within_the_watchdogs_period(service: Service) -> None:
    before, restarts = service.pid, service.restarts
    thread = service.box.threads(before)["lane-offline"]
    command = [sys.executable, str(Path(__file__).with_name("hold_thread.py")), str(thread)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises((aiohttp.ClientError, TypeError, asyncio.TimeoutError)):
            asyncio.run(recognise(service.port, CLIP))
        assert holder.wait(60) == 0
    took = wait_until(lambda: service.pid not in (0, before) and service.is_ready(), "restart")
    assert service.restarts == restarts + 1
    log = service.box.run("journalctl -u funasr-agent -o short-unix --no-pager")
    opened = max(stamp(line) for line in log.splitlines() if "stream opened" in line)
    ended = max(stamp(line) for line in log.splitlines() if "Failed with result 'watchdog'" in line)
    assert "the offline lane has not answered for" in log
    assert ended - opened < WATCHDOG_S
    note("lane hangs until systemd ends it", f"{ended - opened:.1f} s of {WATCHDOG_S:g}")
    note("and until ready again", f"{took:.1f} s more")


def stamp(line: str) -> float:
    return float(line.split()[0])


@pytest.fixture
def quick(service: Service) -> Iterator[Service]:
    """The service with a watchdog of few seconds."""
    drop_in = service.box.tree / "etc/systemd/system/funasr-agent.service.d/quick.conf"
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(f"[Service]\nWatchdogSec={QUICK_S}s\nTimeoutAbortSec=2s\n")
    service.box.run("systemctl daemon-reload && systemctl restart funasr-agent")
    yield service
    drop_in.unlink()
    service.box.run("systemctl daemon-reload && systemctl restart funasr-agent")


def test_an_absent_microphone_is_no_reason_to_restart(quick: Service) -> None:
    assert "no" in quick.box.run("test -e /dev/snd || echo no")
    quick.configure(microphone={"enabled": True})
    quick.box.run("systemctl restart funasr-agent")
    restarts, process = quick.restarts, quick.pid
    quick.box.run(f"sleep {3 * QUICK_S}")
    assert (quick.restarts, quick.pid) == (restarts, process)
    assert quick.box.show("ActiveState") == "active"
    said = quick.check("microphone")
    assert said["status"] == "degraded"
    note("microphone of a box without any", said["reason"])
    note("and its restarts", f"0 restarts in three periods of a watchdog of {QUICK_S} s")


def test_a_frozen_agent_is_restarted_by_the_watchdog(quick: Service) -> None:
    before = quick.pid
    quick.box.run(f"kill -STOP {before}")
    took = wait_until(lambda: quick.pid not in (0, before) and quick.is_ready(), "restart")
    assert quick.restarts >= 1
    note("frozen process until ready again", f"{took:.1f} s with a watchdog of {QUICK_S} s")


def test_a_bad_configuration_is_not_tried_again(service: Service) -> None:
    service.box.run("systemctl stop funasr-agent")
    service.configure(strem={}, inference={"queue": 0})
    assert "exit" in service.box.run("systemctl start funasr-agent || echo exit $?")
    service.box.run("sleep 3")
    assert service.box.show("ActiveState") == "failed"
    assert (service.box.show("ExecMainStatus"), service.restarts) == ("78", 0)
    log = service.box.log("-20s")
    assert "did you mean stream?" in log
    assert "inference.queue" in log
    note("exit 78", "failed, 0 restarts")


def test_a_reload_takes_what_is_good_and_drops_no_stream(service: Service) -> None:
    asyncio.run(reload_under_streams(service))


async def reload_under_streams(service: Service) -> None:
    """Ten streams talk; good and bad reloads come; every stream ends with all its finals."""
    process = service.pid
    async with aiohttp.ClientSession() as http:
        url = f"ws://127.0.0.1:{service.port}/"
        talks = [Talk(await http.ws_connect(url), CLIP) for _ in range(SESSIONS)]
        for talk in talks:
            await talk.begin()
        talking = [asyncio.create_task(talk.say(0.06)) for talk in talks]
        await asyncio.sleep(1)
        assert service.get("/api/v1/status")[1]["sessions"]["open"] == SESSIONS

        service.configure(recognition={"max_end_silence_ms": 6000}, inference={"queue": 9})
        await asyncio.to_thread(service.box.run, "systemctl reload funasr-agent")
        await asyncio.to_thread(wait_until, lambda: segments_end(service) == 6000, "new key")
        said = service.check("configuration")
        assert said["reason"] == "needs a restart: inference.queue"

        service.configure(strem={}, uploads={"max_mb": -1})
        refused = await asyncio.to_thread(
            service.box.run, "systemctl reload funasr-agent || echo refused $?"
        )
        assert "refused 1" in refused
        assert (service.check("configuration")["status"]) == "degraded"
        assert segments_end(service) == 6000
        log = service.box.log("-20s")
        assert "reload refused: " + CONFIG + ": strem: unknown key; did you mean stream?" in log
        assert f"{CONFIG}: uploads.max_mb: Input should be greater" in log

        await asyncio.gather(*talking)
        for talk in talks:
            await talk.pause(1500)
            await talk.say()
        new = Talk(await http.ws_connect(url), CLIP)
        await new.begin()
        await new.say()
        await new.pause(1500)
        await new.say()
        texts = [await talk.end() for talk in talks]
        await new.end()
    assert len(set(texts)) == 1
    assert all(len(talk.finals()) == 2 for talk in talks)  # 800 ms of silence end a segment
    assert len(new.finals()) == 1  # 6000 ms do
    assert service.pid == process
    note("reload under streams", f"{len(texts)} of {SESSIONS} kept, each with all its finals")
    note("changed key", "1 segment in a new stream, 2 in the old ones")
    note("bad file", "refused, old configuration in force, systemctl reload fails")


def segments_end(service: Service) -> int:
    models = service.get("/api/v1/status")[1]["models"]
    parameters = next(row["parameters"] for row in models if row["role"] == "vad")
    return int(parameters["max_end_silence_time"])


def test_the_weekly_check_asks_the_running_agent(service: Service) -> None:
    service.box.run("systemctl start funasr-agent-verify.service", check=False)
    said = service.box.run("journalctl -u funasr-agent-verify -o cat --no-pager")
    # On a busy machine a model may be told to be slow, which shows as a failed unit.
    looked_at = re.findall(r"^(ok|slow) +builtin-(\w+)@", said, flags=re.MULTILINE)
    assert {name for _, name in looked_at} == {"vad", "online", "offline"}, said
    slow = any(verdict == "slow" for verdict, _ in looked_at)
    result = service.box.show("Result", "funasr-agent-verify")
    assert result == ("exit-code" if slow else "success")
    note("weekly check", "three models looked at" + (", one is slow" if slow else ""))


def test_a_reboot_comes_back(service: Service) -> None:
    box = service.box
    service.configure()
    box.run("systemctl enable -q funasr-agent funasr-agent-verify.timer")
    box.power_off()
    booted = box.boot()
    took = wait_until(service.is_ready, "ready after a reboot")
    note("reboot", f"{booted:.1f} s to boot, ready {took:.1f} s later")
    assert "funasr-agent-verify.timer" in box.run("systemctl list-timers --no-pager --all")
    assert asyncio.run(recognise(service.port, CLIP))
