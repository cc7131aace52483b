"""Audio files as a stream of 16 kHz mono blocks: whatever libsndfile reads, in flat memory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from agent.audio.convert import Resampler, downmix
from agent.errors import MediaError, ProtocolError
from agent.types import MAX_RATE, MIN_RATE, Int16

NOT_AUDIO = "not_audio"
UNDECODABLE = "undecodable"
TRUNCATED = "truncated"
"""Code of a file that ends before its header says; what was there has been handed out."""
UNREADABLE = "unreadable"
"""Code of a file that is missing, not allowed or not a regular file."""

MAX_CHANNELS = 64
DEFAULT_BLOCK_MS = 500

_UNRECOGNISED_FORMAT = 1
"""libsndfile's SF_ERR_UNRECOGNISED_FORMAT."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile states a number near 2**63 when it can't know the length."""
_STREAM_MARK = 0x7FFF_0000
"""Recorders that write to a pipe put a length near 2**31 or 2**32 into the header."""
_SHORTENED = re.compile(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_SLACK_S = 0.1
"""Encoder delay and padding make the stated length of packed formats slightly uncertain."""
_OGG_PAGE_MAX = 65_307
_OGG_HEADER = 27
"""Bytes before the segment table; the last of them is the number of segments."""
_OGG_FLAGS_AT = 5
_OGG_END = 4
_HEADER_WITHIN = 65_536
_TAG_SHARE = 0.1
"""An MP3 may end in tags; a larger part left unread is audio."""
_RIFF = ("WAV", "WAVEX")
_EMPTY_DATA = b"data" + bytes(4)


def open_media_file(path: Path, shown: Path | None = None) -> int:
    """A read-only descriptor of a regular file. Raises MediaError (code `unreadable`).

    Messages call the file `shown`; none: `path`.
    """
    name = path if shown is None else shown
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(f"{name}: {reason}", code=UNREADABLE) from None
    except ValueError as error:
        raise MediaError(f"{str(name)!r}: {error}", code=UNREADABLE) from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise MediaError(f"{name}: is {what}; name an audio file", code=UNREADABLE)
    return fd


class MediaReader:
    """One audio file. Use it as a context manager.

    `path` names the file in messages; `fd` is its open descriptor (taken over), or None to
    open it here. Raises MediaError: `unreadable`, `not_audio` or `undecodable`.
    """

    def __init__(self, path: Path, *, fd: int | None = None) -> None:
        self.path = path
        self._fd = open_media_file(path) if fd is None else fd
        self._file: soundfile.SoundFile | None = None
        try:
            self._file = self._open()
            self.rate: int = self._file.samplerate
            self.channels: int = self._file.channels
            self._check_shape()
            self._resampler = Resampler(self.rate)
        except ProtocolError as error:
            self.close()
            raise MediaError(f"{path}: {error.message}", code=UNDECODABLE) from None
        except BaseException:
            self.close()
            raise

    @property
    def duration_s(self) -> float | None:
        """Length that the header states; None when it does not."""
        frames = self._stated_frames()
        return None if frames is None else frames / self.rate

    def blocks(self, block_ms: int = DEFAULT_BLOCK_MS) -> Iterator[Int16]:
        """16 kHz mono blocks, each from about `block_ms` of the file, none empty.

        Raises MediaError after the last block that could be read: `undecodable` for damage,
        `truncated` when the file ends early. Can be iterated once.
        """
        file = self._opened()
        frames = max(1, self.rate * block_ms // 1000)
        raw = bytearray(frames * self.channels * np.dtype(np.float32).itemsize)
        buffer = np.frombuffer(raw, np.float32).reshape(frames, self.channels)
        done = 0
        failure: MediaError | None = None
        while failure is None:
            try:
                got = file.buffer_read_into(raw, dtype="float32")
            except (soundfile.LibsndfileError, RuntimeError) as error:
                failure = self._cut_inside_a_frame(done) or self._error(
                    f"can't be decoded after {done / self.rate:.1f} s: ", error
                )
                break
            if got == 0:
                break
            done += got
            block = self._resampler.accept(downmix(buffer[:got]))
            if len(block):
                yield block
        tail = self._resampler.finish()
        if len(tail):
            yield tail
        failure = failure or self._shortfall(done)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> soundfile.SoundFile:
        if os.fstat(self._fd).st_size == 0:
            raise MediaError(f"{self.path}: is empty", code=NOT_AUDIO)
        try:
            # By descriptor: given a name, soundfile judges by its ending.
            return _ForwardFile(self._fd, closefd=False)
        except soundfile.LibsndfileError as error:
            if error.code == _UNRECOGNISED_FORMAT:
                raise MediaError(
                    f"{self.path}: is not audio (read are wav, flac, mp3, ogg and opus; with PyAV "
                    "m4a, mp4 and webm too)",
                    code=NOT_AUDIO,
                ) from None
            raise self._error("can't be decoded: ", error) from None

    def _opened(self) -> soundfile.SoundFile:
        if self._file is None:
            raise MediaError(f"{self.path}: is closed", code=UNREADABLE)
        return self._file

    def _check_shape(self) -> None:
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise MediaError(
                f"{self.path}: has {self.channels} channels, at most {MAX_CHANNELS} are read",
                code=UNDECODABLE,
            )
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise MediaError(
                f"{self.path}: its sample rate is {self.rate} Hz, "
                f"{MIN_RATE} to {MAX_RATE} Hz are read",
                code=UNDECODABLE,
            )

    def _error(self, what: str, error: Exception) -> MediaError:
        detail = getattr(error, "error_string", "") or str(error) or type(error).__name__
        return MediaError(f"{self.path}: {what}{detail.rstrip('. ')}", code=UNDECODABLE)

    def _stated_frames(self) -> int | None:
        frames: int = self._opened().frames
        return frames if 0 < frames < _UNKNOWN_FRAMES else None

    def _shortfall(self, done: int) -> MediaError | None:
        """The error of a file that ended early after `done` frames, if it did."""
        file = self._opened()
        stated = self._stated_frames()
        if done == 0 and file.format in _RIFF and self._unfinished():
            return MediaError(
                f"{self.path}: its header states no audio, but data follows: the recorder did "
                "not finish the file; repair the header",
                code=TRUNCATED,
            )
        ends = f"{self.path}: ends after {done / self.rate:.1f} s"
        for said, found in _SHORTENED.findall(file.extra_info):
            if int(found) < int(said) < _STREAM_MARK:
                whole_s = done / self.rate * int(said) / max(1, int(found))
                return self._cut_off(f"{ends} of {whole_s:.1f} s")
        exact = self._length_is_exact(file.format)
        if file.format == "MP3" and self._unread_share() > _TAG_SHARE:
            why = "it states a shorter length" if exact else "it states no length"
            return MediaError(
                f"{ends}, as its start suggests, but the file goes on: {why}; convert it, for "
                "example to flac",
                code=TRUNCATED,
            )
        if stated is not None and exact:
            missing_s = (stated - done) / self.rate
            if missing_s > _SLACK_S:
                return self._cut_off(f"{ends} of {stated / self.rate:.1f} s")
        if file.format == "OGG" and not self._ogg_has_end():
            return self._cut_off(f"{ends} without an end mark")
        return None

    def _cut_inside_a_frame(self, done: int) -> MediaError | None:
        """The error of a FLAC file whose decoder failed at the very end of what is there."""
        stated = self._stated_frames()
        if self._opened().format != "FLAC" or stated is None or self._unread_share() > 0:
            return None
        missing_s = (stated - done) / self.rate
        if not done or missing_s <= _SLACK_S:
            return None
        shown = f"{self.path}: ends after {done / self.rate:.1f} s of {stated / self.rate:.1f} s"
        return self._cut_off(shown)

    def _cut_off(self, what: str) -> MediaError:
        return MediaError(f"{what}: the file is cut off or damaged", code=TRUNCATED)

    def _unfinished(self) -> bool:
        """Whether something that is no chunk follows an empty `data` chunk of a RIFF file."""
        head = os.pread(self._fd, _HEADER_WITHIN, 0)
        after = head.find(_EMPTY_DATA)
        if after < 0:
            return False
        name = head[after + len(_EMPTY_DATA) :][:4]
        return bool(name) and not name.replace(b" ", b"a").isalnum()

    def _unread_share(self) -> float:
        """Part of the file behind the point that the decoder has reached."""
        return 1 - os.lseek(self._fd, 0, os.SEEK_CUR) / max(1, os.fstat(self._fd).st_size)

    def _length_is_exact(self, format_name: str) -> bool:
        """An MP3 without a Xing or Info header has its length only guessed from its size."""
        if format_name != "MP3":
            return True
        head = os.pread(self._fd, _HEADER_WITHIN, 0)
        return b"Xing" in head or b"Info" in head

    def _ogg_has_end(self) -> bool:
        """Whether the last page is whole and marked as the last (RFC 3533, section 6)."""
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _OGG_PAGE_MAX, max(0, size - _OGG_PAGE_MAX))
        page = tail[max(0, tail.rfind(b"OggS")) :]
        if len(page) < _OGG_HEADER or not page[_OGG_FLAGS_AT] & _OGG_END:
            return False
        body_at = _OGG_HEADER + page[_OGG_HEADER - 1]
        return len(page) >= body_at + sum(page[_OGG_HEADER:body_at])


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads straight on. SoundFile itself seeks after each read of a seekable file, which
    fails in a FLAC stream that states no length."""

    def seekable(self) -> bool:
        return False
