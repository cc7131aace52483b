"""Hostile media files: small ones that decode to hours, headers that lie, files that are cut."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

HOUR_S = 3600
_BLOCK_S = 60


def wav(
    *, rate: int = 16000, channels: int = 1, bits: int = 16, stated: int = 3200, kind: int = 1
) -> bytes:
    """3200 bytes of silence behind a header that may lie."""
    size = max(1, channels * bits // 8)
    head = struct.pack(
        "<4sI8sIHHIIHH4sI",
        b"RIFF",
        min(36 + stated, 0xFFFFFFFF),
        b"WAVEfmt ",
        16,
        kind,
        channels,
        rate,
        rate * size & 0xFFFFFFFF,
        size & 0xFFFF,
        bits,
        b"data",
        stated,
    )
    return head + bytes(3200)


def rf64(samples: int = 1 << 62) -> bytes:
    """A RIFF of 64 bit that states so many samples."""
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, samples, samples, samples, 0)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    head = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE")
    return head + sizes + form + struct.pack("<4sI", b"data", 0xFFFFFFFF) + bytes(3200)


def silence(hours: float, kind: str, subtype: str | None = None, rate: int = 8000) -> bytes:
    """Hours of silence, as small as the format makes them."""
    made = io.BytesIO()
    block = np.zeros(rate * _BLOCK_S, np.int16)
    with soundfile.SoundFile(made, "w", rate, 1, subtype=subtype, format=kind) as file:
        for _ in range(round(hours * HOUR_S / _BLOCK_S)):
            file.write(block)
    return made.getvalue()


def repeated_mp3(hours: float, *, says_its_length: bool) -> bytes:
    """Hours of silence: frames of an MP3 stand for themselves, so that a few of them do.

    `says_its_length`: the first frame states the length of those few.
    """
    made = io.BytesIO()
    soundfile.write(made, np.zeros(8000 * _BLOCK_S, np.int16), 8000, format="MP3")
    data = made.getvalue()
    first = data[:2]
    frames = data if says_its_length else data[data.index(first, 2) :]
    return frames * round(hours * HOUR_S / _BLOCK_S)


def speechless(seconds: float, kind: str, subtype: str | None = None) -> bytes:
    """Noise that can't be packed away."""
    made = io.BytesIO()
    noise = np.random.default_rng(5).normal(0, 2000, round(seconds * 16000)).astype(np.int16)
    soundfile.write(made, noise, 16000, format=kind, subtype=subtype)
    return made.getvalue()


def without_length(flac: bytes) -> bytes:
    """The same FLAC stream, its STREAMINFO stating no number of samples."""
    return _with_samples(flac, 0)


def with_most_samples(flac: bytes) -> bytes:
    """The same FLAC stream, stating 2**36 - 1 samples."""
    return _with_samples(flac, (1 << 36) - 1)


def packed(kind: str, codec: str, seconds: float, rate: int = 8000) -> bytes:
    """Silence in a container, by PyAV."""
    import av

    made = io.BytesIO()
    with av.open(made, "w", format=kind) as container:
        track = container.add_stream(codec, rate=rate)
        track.layout = "mono"
        size = rate
        for i in range(round(seconds)):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, size), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, i * size, Fraction(1, rate)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return made.getvalue()


def with_table(mp4: bytes, name: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The same MP4, the start of its table `name` changed in place."""
    at = mp4.index(name) + len(name)
    before = mp4[at : at + 16]
    return mp4[:at] + change(before) + mp4[at + 16 :]


def endless_sizes(mp4: bytes) -> bytes:
    """An MP4 whose `stsz` says that 2**32 - 1 samples of one byte follow."""
    return with_table(
        mp4, b"stsz", lambda old: old[:4] + struct.pack(">II", 1, 2**32 - 1) + old[12:]
    )


def endless_times(mp4: bytes) -> bytes:
    """An MP4 whose `stts` says that one sample lasts 2**31 ticks, 2**32 - 1 times."""
    most = struct.pack(">III", 1, 2**32 - 1, 2**31)
    return with_table(mp4, b"stts", lambda old: old[:4] + most)


def box_in_box(depth: int) -> bytes:
    """MP4 boxes within boxes."""
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I4s", 8 + len(inner), b"moov") + inner
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + inner


def huge_element(webm: bytes) -> bytes:
    """A Matroska file whose tracks claim 2**48 bytes."""
    at = webm.index(b"\x16\x54\xae\x6b") + 4
    return webm[:at] + b"\x01" + (1 << 48).to_bytes(7, "big") + webm[at + 1 :]


def half(data: bytes) -> bytes:
    """The file, cut off in its middle."""
    return data[: len(data) // 2]


def save(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _with_samples(flac: bytes, samples: int) -> bytes:
    head = bytearray(flac)
    at = 4 + 4 + 13  # the mark, the block's head, then 36 bits behind rates and channels
    head[at] = head[at] & 0xF0 | samples >> 32
    head[at + 1 : at + 5] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(head)
