"""Audio files: every format to the same samples, damage named, memory flat."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agent.audio.media import MAX_CHANNELS, MediaReader, open_media_file
from agent.errors import MediaError
from agent.types import Int16

SECONDS = 3
TONE = (12000 * np.sin(2 * np.pi * 440 * np.arange(16000 * SECONDS) / 16000)).astype(np.int16)
FORMATS: dict[str, dict[str, Any]] = {
    "a.wav": {},
    "float.wav": {"subtype": "FLOAT"},
    "a.flac": {},
    "a.mp3": {},
    "a.ogg": {},
    "opus.ogg": {"format": "OGG", "subtype": "OPUS"},
    "a.aiff": {},
}
LOSSLESS = ("a.wav", "float.wav", "a.flac", "a.aiff")


def write(path: Path, samples: Any = TONE, rate: int = 16000, **how: Any) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


def read(path: Path, block_ms: int = 500) -> tuple[Int16, MediaError | None]:
    """Everything that could be read, and the error that ended it."""
    blocks: list[Int16] = []
    with MediaReader(path) as reader:
        try:
            blocks.extend(reader.blocks(block_ms))
        except MediaError as error:
            return np.concatenate([np.zeros(0, np.int16), *blocks]), error
    return np.concatenate([np.zeros(0, np.int16), *blocks]), None


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_whole(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, TONE / 32768, **FORMATS[name])
    samples, error = read(path)
    assert error is None
    assert len(samples) == len(TONE)
    if name in LOSSLESS:
        assert np.array_equal(samples, TONE)
    else:
        assert np.corrcoef(samples, TONE)[0, 1] > 0.99
    with MediaReader(path) as reader:
        assert reader.duration_s == SECONDS


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav").rename(tmp_path / "a.raw")
    assert len(read(path)[0]) == len(TONE)


@pytest.mark.parametrize("block_ms", [1, 37, 500, 60_000])
def test_block_size_does_not_change_the_samples(tmp_path: Path, block_ms: int) -> None:
    path = write(tmp_path / "a.wav", rate=44100)
    assert np.array_equal(read(path, block_ms)[0], read(path)[0])


def test_blocks_are_never_empty(tmp_path: Path) -> None:
    with MediaReader(write(tmp_path / "a.wav", rate=48000)) as reader:
        assert all(len(block) for block in reader.blocks(1))


def test_stereo_is_mixed(tmp_path: Path) -> None:
    both = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    samples, _ = read(write(tmp_path / "a.wav", both))
    assert np.abs(samples - TONE / 2).max() <= 1


def test_other_rates_keep_their_length_in_seconds(tmp_path: Path) -> None:
    samples, _ = read(write(tmp_path / "a.wav", TONE[:16000], rate=8000))
    assert len(samples) == 32000


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.mp3", "a.flac"])
def test_a_cut_file_gives_what_it_has_and_says_so(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    samples, error = read(path)
    assert len(TONE) // 3 < len(samples) < len(TONE)
    assert error is not None
    assert error.code in ("truncated", "undecodable")
    assert str(path) in error.message
    assert "after 1." in error.message


@pytest.mark.parametrize(("name", "how"), [("a.ogg", {}), ("o.ogg", FORMATS["opus.ogg"])])
def test_a_cut_ogg_file_is_told_by_its_missing_end_mark(
    tmp_path: Path, name: str, how: dict[str, Any]
) -> None:
    hiss = np.random.default_rng(0).normal(0, 3000, 16000 * 30).astype(np.int16)
    path = write(tmp_path / name, hiss, format="OGG", **{k: how[k] for k in how if k != "format"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    samples, error = read(path)
    assert len(samples) > 16000 * 10
    assert error is not None
    assert (error.code, "without an end mark" in error.message) == ("truncated", True)


def test_an_ogg_file_cut_inside_its_only_page_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg")
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    try:
        _, error = read(path)
    except MediaError as at_opening:
        error = at_opening
    assert error is not None


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_that_was_streamed_states_no_length_and_is_whole(tmp_path: Path, stated: int) -> None:
    path = write(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = stated.to_bytes(4, "little")
    path.write_bytes(data)
    samples, error = read(path)
    assert error is None
    assert np.array_equal(samples, TONE)


def test_a_flac_that_was_streamed_states_no_length_and_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the total number of samples, 36 bits of STREAMINFO
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with MediaReader(path) as reader:
        assert reader.duration_s is None
    samples, error = read(path)
    assert error is None
    assert np.array_equal(samples, TONE)


@pytest.mark.parametrize("first", [b"", bytes(4)])
def test_a_recording_whose_header_was_never_finished_is_told(tmp_path: Path, first: bytes) -> None:
    path = write(tmp_path / "a.wav", TONE[100:])
    data = path.read_bytes()
    at = data.index(b"data") + 4
    path.write_bytes(data[:at] + bytes(4) + first + data[at + 4 :])
    samples, error = read(path)
    assert len(samples) == 0
    assert error is not None
    assert error.code == "truncated"
    assert "did not finish" in error.message


def test_a_wav_without_samples_is_empty_and_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", TONE[:0])
    assert read(path)[1] is None
    path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0INFO")
    samples, error = read(path)
    assert (len(samples), error) == (0, None)


def strip_length_header(path: Path) -> None:
    """Remove the first frame, which holds the Xing header."""
    data = path.read_bytes()
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    path.write_bytes(data[data.index(data[:2], tag) :])


def test_an_mp3_without_a_length_header_is_not_called_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    write(path, bitrate_mode="CONSTANT", compression_level=0.5)
    strip_length_header(path)
    samples, error = read(path)
    assert error is None
    assert len(samples) > len(TONE) * 0.9


def test_an_mp3_whose_length_was_guessed_too_short_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", bitrate_mode="VARIABLE")
    strip_length_header(path)
    samples, error = read(path)
    assert len(samples) < len(TONE) // 2
    assert error is not None
    assert "but the file goes on" in error.message


@pytest.mark.parametrize(
    "content",
    [b"hello, this is text\n" * 50, bytes(range(256)) * 20, b"<html></html>", b"\x89PNG\r\n\x1a\n"],
)
def test_what_is_not_audio_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.wav"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"notes\.wav: is not audio") as caught:
        MediaReader(path)
    assert caught.value.code == "not_audio"


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(MediaError, match="is empty") as caught:
        MediaReader(tmp_path / "a.wav")
    assert caught.value.code == "not_audio"


def test_a_broken_header_is_undecodable(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    with pytest.raises(MediaError, match="can't be decoded") as caught:
        MediaReader(path)
    assert caught.value.code == "undecodable"


def test_what_can_not_be_opened_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "gone.wav", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "a\0b", "null"),
    ):
        with pytest.raises(MediaError, match=words) as caught:
            open_media_file(path)
        assert caught.value.code == "unreadable"


def test_absurd_rates_and_channel_counts_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", TONE[:100], rate=1000)
    with pytest.raises(MediaError, match="its sample rate is 1000 Hz"):
        MediaReader(path)
    wide = np.zeros((10, MAX_CHANNELS + 1), np.int16)
    path = write(tmp_path / "b.wav", wide)
    with pytest.raises(MediaError, match="has 65 channels"):
        MediaReader(path)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk" * 100)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with MediaReader(path) as reader:
            next(iter(reader.blocks()))
        with pytest.raises(MediaError):
            MediaReader(junk)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_reader_says_so(tmp_path: Path) -> None:
    reader = MediaReader(write(tmp_path / "a.wav"))
    reader.close()
    reader.close()
    with pytest.raises(MediaError, match="is closed"):
        next(iter(reader.blocks()))


MEASURE = """
import sys, resource
from pathlib import Path
from agent.audio.media import MediaReader
with MediaReader(Path(sys.argv[1])) as reader:
    n = sum(len(block) for block in reader.blocks())
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_long_file_needs_no_more_memory_than_a_short_one(tmp_path: Path, name: str) -> None:
    peaks = []
    for minutes in (1, 10):
        hiss = np.random.default_rng(0).normal(0, 3000, 22050 * 60).astype(np.int16)
        path = tmp_path / f"{minutes}{name}"
        with soundfile.SoundFile(path, "w", 22050, 1) as file:
            for _ in range(minutes):
                file.write(hiss)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True
        )
        samples, peak_kb = map(int, done.stdout.split())
        assert abs(samples - minutes * 60 * 16000) <= 2
        peaks.append(peak_kb)
    assert peaks[1] - peaks[0] < 5 * 1024


def test_the_measuring_unit_is_kilobytes() -> None:
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 10_000
