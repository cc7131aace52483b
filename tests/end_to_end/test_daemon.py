"""The real daemon: start, FunASR's protocol with and without TLS, refusals, graceful stop."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import soundfile

from tests.end_to_end.daemon import Daemon

CLIP = "tests/data/clips/zh-1.wav"


def own_transcript(root: Path, clip: Path) -> str:
    """What `funasr-agent transcribe` prints."""
    command = [sys.executable, "-m", "agent", "transcribe", "--format", "json", str(clip)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=120)
    return str(json.loads(done.stdout)["text"])


async def funasr(url: str, clip: Path, mode: str) -> list[dict[str, Any]]:
    """All messages for a clip, sent as FunASR's clients do."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    data = soundfile.read(clip, dtype="int16")[0].tobytes()
    got = []
    async with aiohttp.ClientSession() as http, http.ws_connect(url, ssl=trust) as socket:
        await socket.send_json({"mode": mode, "wav_name": "demo", "is_speaking": True})
        for i in range(0, len(data), 1920):
            await socket.send_bytes(data[i : i + 1920])
        await socket.send_json({"is_speaking": False})
        while not got or not got[-1]["is_final"]:
            got.append(await socket.receive_json(timeout=30))
    return got


def test_every_mode_reads_a_clip_on_plain_and_tls_listeners(root: Path, tmp_path: Path) -> None:
    expected = own_transcript(root, root / CLIP)
    with Daemon(tmp_path, "listen=[{port: 0}, {port: 0, tls: true}]", listeners=2) as daemon:
        assert [address.split(":")[0] for address in daemon.addresses] == ["http", "https"]
        for address in daemon.addresses:
            offline = asyncio.run(funasr(address, root / CLIP, "offline"))
            assert [m["text"] for m in offline] == [expected]
            two_pass = asyncio.run(funasr(address, root / CLIP, "2pass"))
            said = [m["text"] for m in two_pass if m["mode"] == "2pass-offline" and m["text"]]
            assert said == [expected]
            online = asyncio.run(funasr(address, root / CLIP, "online"))
            assert {m["mode"] for m in online} == {"online"}
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()


def test_a_damaged_model_is_refused_by_name_and_the_rest_serves(root: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(root / "models", models)
    graph = models / "builtin-offline" / "model_quant.onnx"
    data = bytearray(graph.read_bytes())
    data[1000] ^= 1
    graph.write_bytes(data)
    with Daemon(tmp_path, f"models.dir={models}") as daemon:
        status, health = daemon.get("/health")
        assert (status, health["status"]) == (200, "degraded")
        check = next(c for c in health["checks"] if c["name"] == "model_asr_offline")
        assert "model_quant.onnx: sha256 is" in check["reason"]
        refused = [row for row in daemon.get("/api/v1/models")[1]["roles"] if row["refused"]]
        assert refused[0]["refused"][0]["code"] == "integrity"
        assert "sha256" in daemon.log()
        got = asyncio.run(funasr(daemon.url, root / CLIP, "2pass"))
        assert got[-1]["is_final"]
        assert "".join(m["text"] for m in got)


def test_without_any_model_the_page_serves_and_says_why(root: Path, tmp_path: Path) -> None:
    with Daemon(tmp_path, f"models.dir={tmp_path / 'nothing'}", ready=False) as daemon:
        for _ in range(100):
            status, health = daemon.get("/health")
            if health["status"] != "starting":
                break
        assert (status, health["status"]) == (503, "failing")
        assert "builtin-vad" in json.dumps(health)
        assert daemon.get("/")[0] == 200
        assert daemon.get("/livez")[0] == 200
        assert daemon.get("/readyz")[0] == 503
        got = asyncio.run(refused_stream(daemon.url))
        assert (got["type"], got["code"]) == ("error", "not_ready")


async def refused_stream(url: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url + "/api/v1/stream") as socket,
    ):
        await socket.send_json({"type": "start"})
        answer: dict[str, Any] = await socket.receive_json(timeout=20)
        return answer


def test_a_taken_port_is_told_with_its_key_and_78(root: Path, tmp_path: Path) -> None:
    with Daemon(tmp_path, ready=False) as daemon:
        port = daemon.url.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "agent", "serve", "--set", f"listen.0.port={port}"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert f"listen.0.port: {port} is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stop_sends_the_finals_of_open_streams(root: Path, tmp_path: Path) -> None:
    expected = own_transcript(root, root / CLIP)
    with Daemon(tmp_path) as daemon:
        got = asyncio.run(stopped_while_speaking(daemon, root / CLIP))
    assert expected in got


async def stopped_while_speaking(daemon: Daemon, clip: Path) -> list[str]:
    """Finals of a stream whose client never says that it has ended."""
    samples = soundfile.read(clip, dtype="int16")[0]
    samples = np.concatenate([samples, np.zeros(3200, np.int16)])
    finals = []
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(daemon.url + "/ws") as socket,
    ):
        await socket.send_json({"mode": "2pass"})
        await socket.send_bytes(samples.tobytes())
        while (await socket.receive_json(timeout=30))["mode"] != "2pass-online":
            continue
        os.kill(daemon.pid, 15)
        async for message in socket:
            fields = json.loads(message.data)
            if fields["mode"] == "2pass-offline":
                finals.append(fields["text"])
        assert socket.close_code == 1001
    return finals
