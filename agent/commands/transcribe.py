"""`funasr-agent transcribe`: audio files to text, without the daemon."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.audio.containers import Reader, open_media
from agent.audio.media import open_media_file
from agent.commands.common import FAILED, FINE, USAGE, complain, config_from, readable
from agent.commands.output import FileResult, OutputFolder, render
from agent.commands.progress import FileProgress
from agent.commands.recogniser import Recogniser, load_recogniser
from agent.config import Config
from agent.errors import AgentError, MediaError
from agent.types import SAMPLE_RATE, Int16, Transcript

_ONE_DOCUMENT = ("srt", "vtt")

LoadRecogniser = Callable[[Config, str | None, Callable[[str], None]], Recogniser]


def transcribe(
    args: argparse.Namespace, *, recogniser_for: LoadRecogniser = load_recogniser
) -> int:
    """Transcribe every file; a file that fails is named and the others go on.

    Returns 0, 1 when anything of any file was lost, or 2 for arguments that contradict.
    """
    names: list[str] = args.files
    if args.format in _ONE_DOCUMENT and len(names) > 1 and args.output is None:
        complain(f"several files as {args.format} need --output DIR: each is a document of its own")
        return USAGE
    config = config_from(args)
    folder = None if args.output is None else OutputFolder(Path(args.output), args.format)
    problems = [] if folder is None else folder.plan(names)
    for problem in problems:
        complain(problem)
    if problems:
        return USAGE
    recogniser = recogniser_for(config, args.model, complain)
    write = _writer(args.format, folder, several=len(names) > 1)
    failed = 0
    with FileProgress(len(names)) as progress:
        for name in names:
            progress.start_file(readable(name))
            failure = _transcribe_one(name, recogniser, write, progress)
            progress.end_file()
            if failure:
                failed += 1
                with progress.aside():
                    complain(failure)
    return FAILED if failed else FINE


def _writer(
    format_name: str, folder: OutputFolder | None, *, several: bool
) -> Callable[[FileResult], None]:
    def write(result: FileResult) -> None:
        document = render(result, format_name)
        if folder is not None:
            folder.write(result.name, document)
            return
        prefix = f"{readable(result.name)}\t" if several and format_name == "text" else ""
        sys.stdout.write(prefix + document)
        sys.stdout.flush()

    return write


def _transcribe_one(
    name: str,
    recogniser: Recogniser,
    write: Callable[[FileResult], None],
    progress: FileProgress,
) -> str:
    """Transcribe and write one file; what went wrong, empty when nothing did."""
    try:
        result, lost = _recognise(name, recogniser, progress)
        with progress.aside():
            write(result)
    except BrokenPipeError:
        raise
    except MediaError as error:
        return error.message
    except AgentError as error:
        return f"{name}: {error.message}"
    except OSError as error:
        return f"{name}: {error}"
    except Exception as error:  # noqa: BLE001 - one file must not take the others with it
        return f"{name}: can't be recognised: {type(error).__name__}: {error}"
    return lost


def _recognise(name: str, recogniser: Recogniser, progress: FileProgress) -> tuple[FileResult, str]:
    """The result, and what was lost when the file is damaged. Raises MediaError without any."""
    started = time.perf_counter()
    session = recogniser.open(name)
    finals: list[Transcript] = []
    samples = 0
    lost = ""
    with _open(name) as reader:
        blocks = reader.blocks()
        while True:
            try:
                block = _next(blocks)
            except MediaError as error:
                if not samples:
                    raise
                lost = error.message
                break
            if block is None:
                break
            samples += len(block)
            finals += session.accept(block)
            progress.advance(samples / SAMPLE_RATE, reader.duration_s)
    finals += session.finish()
    result = FileResult(
        name=name,
        duration_s=round(samples / SAMPLE_RATE, 3),
        segments=tuple(final for final in finals if final.text),
        models=dict(recogniser.ids),
        elapsed_s=time.perf_counter() - started,
    )
    return result, lost


def _open(name: str) -> Reader:
    with _stderr_muted():
        return open_media(Path(name), open_media_file(Path(name)))


def _next(blocks: Iterator[Int16]) -> Int16 | None:
    with _stderr_muted():
        return next(blocks, None)


@contextmanager
def _stderr_muted() -> Iterator[None]:
    """libsndfile's codecs write warnings straight to descriptor 2; what matters is raised."""
    try:
        kept = os.dup(2)
    except OSError:  # started without a stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
