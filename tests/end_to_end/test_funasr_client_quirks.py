"""FunASR's clients, each as it really speaks and listens, against the real daemon.

What a client sends and when it closes is taken from its source in FunASR's repository
(runtime/); a reply that would crash or hang it fails its test.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile

from tests.end_to_end.daemon import Daemon

WAIT_S = 30
END = {"is_speaking": False}
HEADER = 44
"""Length of the plain WAV header that several clients cut off without looking."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon.url
        assert "Traceback" not in daemon.log()


@pytest.fixture(scope="module")
def clips(root: Path) -> dict[str, str]:
    """Clip name -> its text."""
    rows = (root / "tests/data/clips/transcripts.tsv").read_text(encoding="utf-8").splitlines()
    return {row.split("\t")[0]: row.split("\t")[2] for row in rows[1:]}


def pcm(root: Path, name: str) -> bytes:
    return bytes(soundfile.read(root / "tests/data/clips" / name, dtype="int16")[0].tobytes())


def wav_file(data: bytes, rate: int = 16000) -> bytes:
    layout = struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


class Client:
    """One socket, strict about replies: Android throws without any of the four fields."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.got: list[dict[str, Any]] = []

    async def start(self, **fields: Any) -> None:
        await self.socket.send_json({"is_speaking": True, **fields})

    async def audio(self, data: bytes, block: int) -> None:
        for i in range(0, len(data), block):
            await self.socket.send_bytes(data[i : i + block])

    async def end(self, **fields: Any) -> None:
        await self.socket.send_json({**END, **fields})

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json(timeout=WAIT_S)
        assert isinstance(message["text"], str)
        assert isinstance(message["mode"], str)
        assert isinstance(message["wav_name"], str)
        assert isinstance(message["is_final"], bool)
        assert isinstance(message.get("timestamp", ""), str)
        self.got.append(message)
        return message

    async def until_final(self) -> list[dict[str, Any]]:
        first = len(self.got)
        while not (await self.receive())["is_final"]:
            continue
        return self.got[first:]

    async def nothing_more(self) -> None:
        """The daemon keeps the socket and stays silent."""
        with pytest.raises(asyncio.TimeoutError):
            await self.socket.receive(timeout=0.3)


class connected:
    """A client on a socket of its own."""

    def __init__(self, url: str, protocols: tuple[str, ...] = ()) -> None:
        self._url, self._protocols = url, protocols

    async def __aenter__(self) -> Client:
        self._http = aiohttp.ClientSession()
        socket = await self._http.ws_connect(self._url, protocols=self._protocols)
        return Client(socket)

    async def __aexit__(self, *error: object) -> None:
        await self._http.close()


@pytest.mark.parametrize("name", ["zh-1.wav", "en-1.wav"])
@pytest.mark.parametrize("mode", ["offline", "online", "2pass"])
async def test_python_client_waits_for_its_acknowledgement(
    root: Path, url: str, clips: dict[str, str], mode: str, name: str
) -> None:
    async with connected(url, ("binary",)) as client:
        await client.start(
            mode=mode,
            chunk_size=[5, 10, 5],
            chunk_interval=10,
            encoder_chunk_look_back=4,
            decoder_chunk_look_back=0,
            audio_fs=16000,
            wav_name="demo",
            wav_format="pcm",
            hotwords="阿里巴巴,达摩院",
            itn=True,
        )
        await client.audio(pcm(root, name), 1920)
        await client.end(is_end=True)
        while not client.got or not client.got[-1].get("is_end"):
            await client.receive()
        assert [m["is_final"] for m in client.got].count(True) == 2  # the flush and this
        assert client.got[-1]["text"] == ""
        sentences = "".join(m["text"] for m in client.got if m["mode"] in (mode, "2pass-offline"))
        if mode != "online":
            assert sentences == clips[name]
        assert {m["wav_name"] for m in client.got} == {"demo"}


async def test_html5_page_clears_partials_at_their_sentence(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    """It appends partials, replaces them by sentences, and closes 3 s after its stop message."""
    fields = {"chunk_size": [5, 10, 5], "wav_name": "h5", "chunk_interval": 10, "mode": "2pass"}
    pause = bytes(2 * 16000 * 2)
    async with connected(url) as client:
        await client.start(**fields, itn=False, hotwords="{}")
        await client.audio(pcm(root, "en-1.wav") + pause + pcm(root, "en-2.wav") + pause, 1920)
        await client.end(**fields)
        shown = kept = ""
        for message in await client.until_final():
            if message["mode"] == "2pass-offline":
                kept += message["text"]
                shown = kept
            else:
                shown += message["text"]
    assert shown == f"{clips['en-1.wav']} {clips['en-2.wav']}"


async def test_html5_page_sends_a_wav_file_with_its_header_as_pcm(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    half = np.frombuffer(pcm(root, "zh-1.wav"), np.int16)[::2].tobytes()
    for data, rate in ((pcm(root, "zh-1.wav"), 16000), (half, 8000)):
        async with connected(url) as client:
            fields = {"wav_name": "h5", "mode": "offline", "chunk_size": [5, 10, 5]}
            await client.start(**fields, wav_format="PCM", audio_fs=rate, itn=True)
            await client.audio(wav_file(data, rate), 960)
            await client.end(**fields)
            (message,) = await client.until_final()
            assert message["mode"] == "offline"
            if rate == 16000:
                assert message["text"] == clips["zh-1.wav"]


async def test_cpp_offline_client_sends_file_after_file_without_a_mode(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    """It counts one message a file; hotwords come with the first one only."""
    async with connected(url) as client:
        for i, name in enumerate(["zh-1.wav", "zh-2.wav"]):
            hotwords = {"hotwords": '{"你好 世界": 20}'} if i == 0 else {}
            await client.start(
                chunk_size=[5, 10, 5],
                chunk_interval=10,
                wav_name=name,
                wav_format="others",
                audio_fs=16000,
                itn=True,
                svs_itn=True,
                **hotwords,
            )
            await client.audio((root / "tests/data/clips" / name).read_bytes(), 204800)
            await client.end()
            (message,) = await client.until_final()
            assert (message["text"], message["wav_name"]) == (clips[name], name)
        await client.nothing_more()


async def test_cpp_2pass_client_closes_at_the_first_final_message(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    data = pcm(root, "zh-1.wav") + bytes(2 * 16000 * 2) + pcm(root, "zh-2.wav")
    async with connected(url) as client:
        await client.start(
            mode="2pass",
            chunk_size=[8, 8, 4],
            wav_name="record",
            wav_format="pcm",
            audio_fs=16000,
            itn=True,
            svs_itn=True,
        )
        await client.audio(data, 204800)
        await client.socket.send_json({"is_finished": True})
        got = await client.until_final()
    said = [m["text"] for m in got if m["mode"] == "2pass-offline" and m["text"]]
    assert said == [clips["zh-1.wav"], clips["zh-2.wav"]]


@pytest.mark.parametrize("mode", ["offline", "2pass"])
async def test_java_client_sends_text_weights_and_its_file_ending(
    root: Path, url: str, clips: dict[str, str], mode: str
) -> None:
    async with connected(url) as client:
        await client.start(
            mode=mode,
            chunk_size=[5, 10, 5],
            chunk_interval=10,
            wav_name="javatest",
            hotwords='{"hello world":"30","nihao":"40"}',
            wav_format="pcm",
        )
        await client.audio(wav_file(pcm(root, "zh-1.wav"))[HEADER:], 1920)
        await client.end()
        got = await client.until_final()
    said = "".join(m["text"] for m in got if m["mode"].endswith("offline"))
    assert said == clips["zh-1.wav"]


async def test_go_client_reads_fields_of_fixed_types(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    """Its message type is four strings; it stops at the first message."""
    async with connected(url) as client:
        await client.start(
            mode="offline", chunk_size=[5, 10, 5], audio_fs=16000, wav_format="pcm", wav_name="demo"
        )
        await client.audio(pcm(root, "zh-1.wav"), 1920)
        await client.end()
        message = await client.receive()
        assert (message["mode"], message["text"]) == ("offline", clips["zh-1.wav"])


async def test_csharp_offline_client_names_no_format_and_cuts_44_bytes(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    async with connected(url) as client:
        await client.start(mode="offline", wav_name="a.wav", hotwords="阿里巴巴 达摩院")
        await client.audio(wav_file(pcm(root, "zh-1.wav"))[HEADER:], 1024000)
        await client.end()
        (message,) = await client.until_final()
        assert message["text"] == clips["zh-1.wav"]
        if "timestamp" in message:  # its pattern knows no spaces
            assert re.findall(r"\[(\d+),(\d+)\]", message["timestamp"])


async def test_csharp_online_client_says_office_and_chunk_size_in_a_text(
    root: Path, url: str, clips: dict[str, str], tmp_path: Path
) -> None:
    async with connected(url) as client:
        await client.start(mode="office", chunk_size=[5, 10, 5], wav_name="a", wav_format="pcm")
        await client.audio(pcm(root, "zh-1.wav"), 102400)
        await client.end()
        (message,) = await client.until_final()
        assert (message["mode"], message["text"]) == ("offline", clips["zh-1.wav"])
        samples = np.frombuffer(pcm(root, "zh-1.wav"), np.int16)
        soundfile.write(tmp_path / "a.flac", samples, 16000)
        await client.start(
            mode="offline", chunk_size="5,10,5", chunk_interval=10, wav_name="b", wav_format="flac"
        )
        await client.audio((tmp_path / "a.flac").read_bytes(), 1024000)
        await client.end()
        (message,) = await client.until_final()
        assert message["text"] == clips["zh-1.wav"]


async def test_android_client_closes_at_the_only_final_message(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    async with connected(url) as client:
        await client.start(
            mode="2pass",
            chunk_size=[5, 10, 5],
            chunk_interval=10,
            wav_name="default",
            hotwords='{"阿里巴巴":20,"达摩院":20}',
            wav_format="pcm",
        )
        await client.audio(pcm(root, "zh-1.wav"), 1920)
        await client.end()
        got = await client.until_final()
        said = partial = ""
        for message in got:
            if message["text"]:
                said += message["text"] if message["mode"] == "2pass-offline" else ""
                partial = "" if message["mode"] == "2pass-offline" else partial + message["text"]
        assert (said + partial) == clips["zh-1.wav"]
        await client.nothing_more()


async def test_samples_before_any_text_message_are_taken_with_defaults(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    async with connected(url + "/ws") as client:
        await client.audio(pcm(root, "zh-1.wav"), 999)
        await client.end()
        got = await client.until_final()
    assert "".join(m["text"] for m in got if m["mode"] == "2pass-offline") == clips["zh-1.wav"]


async def test_silence_gets_one_empty_final_message_in_every_mode(url: str) -> None:
    for mode in ("offline", "online", "2pass"):
        async with connected(url) as client:
            await client.start(mode=mode, wav_name="quiet")
            await client.audio(bytes(32000), 1920)
            await client.end()
            (message,) = await client.until_final()
            assert (message["text"], message["wav_name"]) == ("", "quiet")


async def test_bad_messages_leave_other_sockets_alone(
    root: Path, url: str, clips: dict[str, str]
) -> None:
    async with connected(url) as good:
        await good.start(mode="offline")
        data = pcm(root, "zh-1.wav")
        await good.audio(data[:20000], 1920)
        for bad in ("{", "[]", json.dumps({"mode": 5}), json.dumps({"audio_fs": 1})):
            async with connected(url) as client:
                await client.socket.send_str(bad)
                assert (await client.receive())["error"]
                message = await client.socket.receive(timeout=WAIT_S)
                assert message.type is aiohttp.WSMsgType.CLOSE
                assert message.data == 1007
                assert message.extra
        await good.audio(data[20000:], 1920)
        await good.end()
        (reply,) = await good.until_final()
        assert reply["text"] == clips["zh-1.wav"]
