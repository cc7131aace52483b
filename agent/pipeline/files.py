"""Files through the same pipeline as live audio: decoded in a child process, read segment by
segment, with flat memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from agent.audio.decoder_process import decode_in_child
from agent.audio.media import TRUNCATED
from agent.errors import MediaError, StreamFailed
from agent.joining import join_texts
from agent.pipeline.service import LiveStream, TranscriptionService
from agent.types import (
    SAMPLE_RATE,
    FileTranscript,
    RecognitionMode,
    StreamError,
    StreamOptions,
    Transcript,
)


@dataclass
class FileProgress:
    """How far a file has been read; kept up to date while it is."""

    position_s: float = 0.0
    """Seconds of audio that recognition has taken."""
    duration_s: float | None = None
    """Length that the file states; None when it does not, or nothing is known yet."""


async def transcribe_file(
    service: TranscriptionService,
    path: Path,
    options: StreamOptions,
    *,
    name: str = "",
    progress: FileProgress | None = None,
    on_final: Callable[[Transcript], Awaitable[None]] | None = None,
    max_duration_s: float | None = None,
) -> FileTranscript:
    """Read one audio file.

    `name` stands for the file in messages; `on_final` gets each final with text, in order, and
    holds reading up while it takes its time. What can be read of a truncated file is kept, and
    the result says what is missing.

    Raises MediaError for a file that is no audio or is too long, StreamFailed, Overloaded,
    NotReady.
    """
    one_pass = replace(
        options,
        mode=RecognitionMode.OFFLINE,
        sample_rate=SAMPLE_RATE,
        wav_name=name or options.wav_name,
    )
    stream = await service.open(one_pass, source="file")
    progress = progress or FileProgress()
    feeder = asyncio.create_task(
        _feed(stream, path, name, progress, max_duration_s), name="file-feeder"
    )
    finals: list[Transcript] = []
    try:
        async for event in stream:
            if isinstance(event, StreamError):
                raise StreamFailed(event.message)
            if isinstance(event, Transcript) and event.is_final and event.text:
                finals.append(event)
                if on_final is not None:
                    await on_final(event)
        samples, warning = await feeder
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        await stream.aclose()
    finals.sort(key=lambda final: final.segment_id)
    text = join_texts([final.text for final in finals])
    return FileTranscript(samples / SAMPLE_RATE, text, tuple(finals), warning)


async def _feed(
    stream: LiveStream,
    path: Path,
    name: str,
    progress: FileProgress,
    max_duration_s: float | None,
) -> tuple[int, str]:
    """Push all blocks and end the input; the number of samples at 16 kHz, and a warning."""
    samples, warning = 0, ""

    def stated(duration_s: float) -> None:
        progress.duration_s = duration_s

    try:
        async with aclosing(decode_in_child(path, name=name, on_duration=stated)) as blocks:
            async for block in blocks:
                samples += len(block)
                length_s = max(samples / SAMPLE_RATE, progress.duration_s or 0.0)
                if max_duration_s is not None and length_s > max_duration_s:
                    raise MediaError(
                        f"{name or path}: the audio is longer than {max_duration_s:g} s "
                        "(uploads.max_duration_s); split it",
                        code="too_long",
                    )
                await stream.push(block)
                progress.position_s = samples / SAMPLE_RATE
    except MediaError as error:
        if error.code != TRUNCATED:
            raise
        warning = error.message
    finally:
        await stream.finish()
    return samples, warning
