"""OpenAI's own Python package, and curl, against the real daemon."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from tests.end_to_end.daemon import Daemon
from tests.end_to_end.test_daemon import CLIP, own_transcript

openai = pytest.importorskip("openai", reason="the package openai is not installed")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("sdk")) as running:
        yield running


@pytest.fixture(scope="module")
def expected(root: Path) -> str:
    return own_transcript(root, root / CLIP)


@pytest.fixture
def client(daemon: Daemon) -> Any:
    return openai.OpenAI(base_url=daemon.url + "/v1", api_key="none", max_retries=0)


def test_five_formats(client: Any, root: Path, expected: str) -> None:
    def ask(**how: Any) -> Any:
        with (root / CLIP).open("rb") as file:
            return client.audio.transcriptions.create(model="whisper-1", file=file, **how)

    assert ask().text == expected
    assert ask(response_format="json", language="zh", prompt="你好").text == expected
    assert ask(response_format="text") == expected + "\n"
    assert "-->" in ask(response_format="srt")
    assert ask(response_format="vtt").startswith("WEBVTT")
    both = ask(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert both.text == expected
    assert "".join(word.word for word in both.words) in expected.replace(" ", "")
    assert 0 <= both.segments[0].start < both.segments[-1].end <= both.duration
    starts = [word.start for word in both.words]
    assert starts == sorted(starts)


def test_streamed(client: Any, root: Path, expected: str) -> None:
    with (root / CLIP).open("rb") as file:
        events = list(
            client.audio.transcriptions.create(
                model="gpt-4o-mini-transcribe", file=file, stream=True
            )
        )
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert "".join(event.delta for event in events[:-1]) == expected
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", expected)


def test_models_and_errors(client: Any) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed[0] == "builtin-offline"
    assert client.models.retrieve(listed[0]).owned_by == "funasr-agent"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")
    with pytest.raises(openai.APIStatusError) as refused:
        client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"letters" * 99))
    assert refused.value.status_code == 415
    assert "a.mp3: is not audio" in refused.value.message


@pytest.mark.parametrize("finds_turns", [True, False])
def test_realtime(daemon: Daemon, root: Path, expected: str, finds_turns: bool) -> None:
    samples, rate = soundfile.read(root / CLIP, dtype="int16")
    sent = soxr.resample(np.concatenate([samples, np.zeros(rate, np.int16)]), rate, 24000)
    pcm = sent.astype("<i2").tobytes()

    async def talk() -> list[Any]:
        client = openai.AsyncOpenAI(base_url=daemon.url + "/v1", api_key="none")
        intent = {"intent": "transcription"}
        got: list[Any] = []
        async with client.realtime.connect(extra_query=intent) as connection:
            inside: dict[str, Any] = {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-4o-transcribe", "language": "zh"},
            }
            if not finds_turns:
                inside["turn_detection"] = None
            session = {"type": "transcription", "audio": {"input": inside}}
            await connection.session.update(session=session)
            for i in range(0, len(pcm), 4800):
                audio = base64.b64encode(pcm[i : i + 4800]).decode()
                await connection.input_audio_buffer.append(audio=audio)
            if not finds_turns:
                await connection.input_audio_buffer.commit()
            async for event in connection:
                got.append(event)
                if event.type.endswith(("completed", "error")):
                    return got
        return got

    got = asyncio.run(asyncio.wait_for(talk(), 60))
    kinds = list(dict.fromkeys(event.type.split(".")[-1] for event in got))
    spoken = ["speech_started", "speech_stopped"] if finds_turns else []
    wanted = ["created", "updated", *spoken, "delta", "committed", "added", "completed"]
    assert sorted(kinds) == sorted(wanted)
    assert got[-1].transcript == expected


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
def test_curl(daemon: Daemon, root: Path, expected: str) -> None:
    def curl(*fields: str) -> str:
        command = ["curl", "-sS", "--fail", f"{daemon.url}/v1/audio/transcriptions"]
        for field in (f"file=@{root / CLIP}", "model=whisper-1", *fields):
            command += ["-F", field]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert json.loads(curl()) == {"text": expected}
    assert curl("response_format=text") == expected + "\n"
    assert "data: [DONE]" in curl("stream=true")
