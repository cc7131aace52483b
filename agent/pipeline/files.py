"""Files through the same pipeline as live audio: decoded in a child process, read segment by
segment, with flat memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from agent.audio.decoder_process import decode_in_child
from agent.audio.media import TRUNCATED
from agent.errors import MediaError, StreamFailed
from agent.joining import join_texts
from agent.pipeline.service import LiveStream, TranscriptionService
from agent.types import (
    SAMPLE_RATE,
    FileTranscript,
    Int16,
    RecognitionMode,
    StreamError,
    StreamOptions,
    Transcript,
)


async def transcribe_file(
    service: TranscriptionService,
    path: Path,
    options: StreamOptions,
    *,
    name: str = "",
    on_progress: Callable[[float], None] | None = None,
    max_duration_s: float | None = None,
) -> FileTranscript:
    """Read one audio file; `on_progress` gets the seconds of audio taken so far.

    `name` stands for the file in messages. What can be read of a truncated file is kept, and the
    result says what is missing.

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
    feeder = asyncio.create_task(
        _feed(stream, decode_in_child(path, name=name), on_progress, max_duration_s),
        name="file-feeder",
    )
    finals: list[Transcript] = []
    try:
        async for event in stream:
            if isinstance(event, StreamError):
                raise StreamFailed(event.message)
            if isinstance(event, Transcript) and event.is_final and event.text:
                finals.append(event)
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
    blocks: AsyncGenerator[Int16, None],
    on_progress: Callable[[float], None] | None,
    max_duration_s: float | None,
) -> tuple[int, str]:
    """Push all blocks and end the input; the number of samples at 16 kHz, and a warning."""
    samples, warning = 0, ""
    try:
        async with aclosing(blocks):
            async for block in blocks:
                samples += len(block)
                if max_duration_s is not None and samples > max_duration_s * SAMPLE_RATE:
                    raise MediaError(
                        f"the audio is longer than {max_duration_s:g} s "
                        "(uploads.max_duration_s); split it",
                        code="too_long",
                    )
                await stream.push(block)
                if on_progress is not None:
                    on_progress(samples / SAMPLE_RATE)
    except MediaError as error:
        if error.code != TRUNCATED:
            raise
        warning = error.message
    finally:
        await stream.finish()
    return samples, warning
