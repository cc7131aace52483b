"""A clip through FunASR's protocol, and what came back. Needs no particular WebSocket library."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Protocol

from agent.doctor.clip import Clip, says_the_same
from agent.doctor.remote_answers import MAX_SHOWN, read_fields, readable
from agent.doctor.report import Check, failure, ok, warning

NAME = "clip"
_SLICE_BYTES = 1920
"""60 ms of audio: what FunASR's clients send at a time."""
_MAX_MESSAGES = 2000


class Socket(Protocol):
    """An open WebSocket, as aiohttp's client has it."""

    @property
    def close_code(self) -> int | None:
        """Why the other side closed; None while open."""

    async def send_json(self, data: Any) -> None:
        """Send a text message."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""

    async def receive(self) -> Any:
        """The next message, with `type`, `data` and `extra`."""


@dataclass
class Answer:
    """What came back for a clip."""

    text: str = ""
    trouble: str = ""
    """Why the conversation ended before its end."""


async def check_clip(socket: Socket, clip: Clip, limit_s: float) -> Check:
    """One line."""
    started = time.perf_counter()
    answer = Answer()
    try:
        await asyncio.wait_for(_converse(socket, clip, answer), limit_s)
    except asyncio.TimeoutError:
        answer.trouble = answer.trouble or f"no end of it within {limit_s:g} s"
    return judge_clip(clip, answer, time.perf_counter() - started)


def judge_clip(clip: Clip, answer: Answer, took_s: float) -> Check:
    """The line for an answer that took so long."""
    trouble = f" ({readable(answer.trouble)})" if answer.trouble else ""
    text = answer.text[:MAX_SHOWN]
    if not text:
        advice = "look at /health and the log of the box: journalctl -u funasr-agent"
        return failure(NAME, f"nothing was recognised{trouble}", advice)
    took = f"{clip.duration_s:.1f} s of audio in {took_s:.1f} s"
    if says_the_same(text, clip.text):
        return ok(NAME, f"{took}: {text}{trouble}")
    advice = "expected with other models; with the built-in ones look at /health"
    return warning(NAME, f"{took}: {text!r} instead of {clip.text!r}{trouble}", advice)


async def _converse(socket: Socket, clip: Clip, answer: Answer) -> None:
    """Send the clip as a FunASR client does and gather the finals.

    Sending and receiving run at the same time, so that neither side waits for the other.
    """

    async def send() -> None:
        start = {"mode": "2pass", "wav_name": "doctor", "wav_format": "pcm", "audio_fs": 16000}
        more = {"chunk_size": [5, 10, 5], "chunk_interval": 10, "is_speaking": True}
        await socket.send_json({**start, **more})
        for i in range(0, len(clip.pcm), _SLICE_BYTES):
            await socket.send_bytes(clip.pcm[i : i + _SLICE_BYTES])
        await socket.send_json({"is_speaking": False})

    sending = asyncio.create_task(send())
    try:
        await _receive(socket, answer)
    finally:
        sending.cancel()
        # What stopped the sender shows in what is received.
        await asyncio.gather(sending, return_exceptions=True)


async def _receive(socket: Socket, answer: Answer) -> None:
    for _ in range(_MAX_MESSAGES):
        message = await socket.receive()
        if message.type.name in ("TEXT", "BINARY"):
            fields = read_fields(message.data)
            if fields.get("error"):
                answer.trouble = str(fields["error"])
            if str(fields.get("mode", "")).endswith("offline"):
                answer.text += str(fields.get("text", ""))
            if fields.get("is_final"):
                return
        elif message.type.name == "ERROR":
            answer.trouble = f"the connection broke: {message.data}"
            return
        else:
            why = f": {message.extra}" if message.extra else ""
            answer.trouble = f"the box closed the socket ({socket.close_code}{why})"
            return
    answer.trouble = "messages without end"
