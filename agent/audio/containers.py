"""Files that libsndfile does not read: m4a, mp4, webm, aac, amr by PyAV (extra `media`).

The one door to PyAV. It runs in the decoding child, and no demuxer that opens further files or
addresses (playlists) is ever used: the format is told by the first bytes and named.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from agent.audio.convert import Resampler
from agent.audio.media import (
    DEFAULT_BLOCK_MS,
    NOT_AUDIO,
    TRUNCATED,
    UNDECODABLE,
    MediaReader,
)
from agent.errors import MediaError, ProtocolError
from agent.types import MAX_RATE, MIN_RATE, Int16

_HEAD = 64
_MICROSECONDS = 1_000_000
_SLACK_S = 0.3
"""Containers round their length, and encoders pad."""
_MP4_BRANDS_AT = 4
_EBML = b"\x1aE\xdf\xa3"
_ADTS = (b"\xff\xf1", b"\xff\xf9")
_AMR = b"#!AMR"
_SILENCE = (
    struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + 320, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16)
    + struct.pack("<4sI", b"data", 320)
    + bytes(320)
)


class Reader(Protocol):
    """An open media file, whichever library reads it."""

    @property
    def duration_s(self) -> float | None:
        """Length that the file states; None when it does not."""

    def blocks(self, block_ms: int = DEFAULT_BLOCK_MS) -> Iterator[Int16]:
        """16 kHz mono blocks. Raises MediaError after the last that could be read."""

    def __enter__(self) -> Reader: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def can_read_containers() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


def load_library(fd: int) -> None:
    """Load all of PyAV that a file needs, while files can still be opened; nothing where the file
    does not need it, or it is not installed."""
    if not container_of(os.pread(fd, _HEAD, 0)) or not can_read_containers():
        return
    import av

    # It imports its parts when they are first used.
    with av.open(io.BytesIO(_SILENCE), format="wav") as silence:
        to_mono = av.AudioResampler(format="flt", layout="mono", rate=8000)
        for frame in silence.decode(audio=0):
            to_mono.resample(frame)


def open_media(path: Path, fd: int) -> Reader:
    """The reader of a file, whose descriptor `fd` is taken over; `path` names it in messages.

    Raises MediaError like MediaReader; a container without PyAV says what to install.
    """
    container = container_of(os.pread(fd, _HEAD, 0))
    if not container:
        return MediaReader(path, fd=fd)
    if not can_read_containers():
        os.close(fd)
        raise MediaError(
            f"{path}: is {container}, which needs PyAV; install it with "
            "pip install 'funasr-agent[media]', or send wav, flac, mp3, ogg or opus",
            code=NOT_AUDIO,
        )
    return ContainerReader(path, fd, container)


def container_of(head: bytes) -> str:
    """FFmpeg's name of the format that a file's first bytes tell; empty: not one of these."""
    if head[_MP4_BRANDS_AT : _MP4_BRANDS_AT + 4] == b"ftyp":
        return "mp4"
    if head.startswith(_EBML):
        return "matroska"
    if head.startswith(_ADTS):
        return "aac"
    return "amr" if head.startswith(_AMR) else ""


class ContainerReader:
    """The first audio track of a container. Use it as a context manager."""

    def __init__(self, path: Path, fd: int, container: str) -> None:
        """Takes `fd` over. Raises MediaError: `not_audio` or `undecodable`."""
        import av

        self.path = path
        self._av: Any = av
        self._file = os.fdopen(fd, "rb")
        self._container: Any = None
        try:
            self._container = av.open(self._file, format=container, metadata_errors="replace")
            self._track = self._first_track()
            self.rate = self._checked_rate()
            self._resampler = Resampler(self.rate)
        except av.FFmpegError as error:
            self.close()
            raise self._error("can't be decoded: ", error) from None
        except ProtocolError as error:
            self.close()
            raise MediaError(f"{path}: {error.message}", code=UNDECODABLE) from None
        except BaseException:
            self.close()
            raise

    @property
    def duration_s(self) -> float | None:
        """Length that the container states."""
        if self._track.duration and self._track.time_base:
            return float(self._track.duration * self._track.time_base)
        stated = self._container.duration
        return stated / _MICROSECONDS if stated and stated > 0 else None

    def blocks(self, block_ms: int = DEFAULT_BLOCK_MS) -> Iterator[Int16]:
        """16 kHz mono blocks of at least `block_ms`, but for the last.

        Raises MediaError after the last block that could be read: `undecodable` for damage,
        `truncated` when the file ends early. Can be iterated once.
        """
        wanted = max(1, self.rate * block_ms // 1000)
        waiting: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        held = done = 0
        failure: MediaError | None = None
        samples = self._samples()
        while failure is None:
            try:
                piece = next(samples, None)
            except self._av.FFmpegError as error:
                failure = self._error(f"can't be decoded after {done / self.rate:.1f} s: ", error)
                break
            if piece is None:
                break
            waiting.append(piece)
            held += len(piece)
            done += len(piece)
            if held >= wanted:
                block = self._resampler.accept(np.concatenate(waiting))
                waiting, held = [], 0
                if len(block):
                    yield block
        rest = np.concatenate([*waiting, np.zeros(0, np.float32)])
        tail = np.concatenate([self._resampler.accept(rest), self._resampler.finish()])
        if len(tail):
            yield tail
        failure = failure or self._shortfall(done)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._container is not None:
            self._container.close()
            self._container = None
        self._file.close()

    def __enter__(self) -> ContainerReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _samples(self) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
        """Mono float32 pieces at the track's rate."""
        to_mono = self._av.AudioResampler(format="flt", layout="mono", rate=self.rate)
        for packet in self._container.demux(self._track):
            for frame in packet.decode():
                frame.pts = None
                for mono in to_mono.resample(frame):
                    yield mono.to_ndarray().reshape(-1)
        for mono in to_mono.resample(None):
            yield mono.to_ndarray().reshape(-1)

    def _first_track(self) -> Any:
        tracks = self._container.streams.audio
        if not tracks:
            raise MediaError(f"{self.path}: has no audio track", code=NOT_AUDIO)
        track = tracks[0]
        if track.codec_context is None:
            raise MediaError(f"{self.path}: its codec is not known here", code=UNDECODABLE)
        track.codec_context.thread_count = 1
        return track

    def _checked_rate(self) -> int:
        rate = int(self._track.codec_context.sample_rate or 0)
        if not MIN_RATE <= rate <= MAX_RATE:
            raise MediaError(
                f"{self.path}: its sample rate is {rate} Hz, {MIN_RATE} to {MAX_RATE} Hz are read",
                code=UNDECODABLE,
            )
        return rate

    def _shortfall(self, done: int) -> MediaError | None:
        stated, read_s = self.duration_s, done / self.rate
        if stated is None or self._container.format.name == "aac" or stated - read_s <= _SLACK_S:
            return None  # raw AAC states no length, FFmpeg guesses one
        return MediaError(
            f"{self.path}: ends after {read_s:.1f} s of {stated:.1f} s: the file is cut off or "
            "damaged",
            code=TRUNCATED,
        )

    def _error(self, what: str, error: Exception) -> MediaError:
        detail = getattr(error, "strerror", "") or type(error).__name__
        return MediaError(f"{self.path}: {what}{detail}", code=UNDECODABLE)
