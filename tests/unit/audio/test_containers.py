"""m4a, mp4, webm and the like by PyAV, in the decoding child."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.audio.containers import container_of
from agent.audio.decoder_process import decode_in_child
from agent.errors import MediaError
from agent.types import Int16

av: Any = pytest.importorskip("av", reason="PyAV (extra media) is not installed")

SECONDS = 4
FILES = {
    "a.m4a": ("aac", "ipod", 44100, "stereo"),
    "a.mp4": ("aac", "mp4", 16000, "mono"),
    "opus.webm": ("libopus", "webm", 48000, "mono"),
    "a.aac": ("aac", "adts", 22050, "mono"),
}


def tone(rate: int) -> Int16:
    return (12000 * np.sin(2 * np.pi * 440 * np.arange(rate * SECONDS) / rate)).astype(np.int16)


def write(path: Path, codec: str, container: str, rate: int, layout: str) -> Path:
    with av.open(str(path), "w", format=container) as file:
        track = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(tone(rate)[None], format="s16", layout="mono")
        frame.rate = rate
        size = track.codec_context.frame_size or 1024
        fit = av.AudioResampler(track.format, layout, rate, frame_size=size)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            file.mux(track.encode(piece))
        file.mux(track.encode(None))
    return path


async def read(path: Path, **how: Any) -> tuple[Int16, MediaError | None, list[float]]:
    blocks: list[Int16] = [np.zeros(0, np.int16)]
    stated: list[float] = []
    try:
        async for block in decode_in_child(path, name="a", on_duration=stated.append, **how):
            blocks.append(block)
    except MediaError as error:
        return np.concatenate(blocks), error, stated
    return np.concatenate(blocks), None, stated


@pytest.mark.parametrize("name", FILES)
async def test_each_container_is_read_whole(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, *FILES[name])
    samples, error, stated = await read(path)
    assert error is None
    assert len(samples) / 16000 == pytest.approx(SECONDS, abs=0.15)
    if name != "a.aac":  # it states no length
        assert stated == [pytest.approx(SECONDS, abs=0.15)]
    # The pitch and the level are those that were written.
    middle = samples[16000:32000].astype(float)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    assert np.abs(middle).max() == pytest.approx(12000, rel=0.15)


async def test_a_cut_webm_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.webm", *FILES["opus.webm"])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    samples, error, _ = await read(path)
    assert len(samples) > 16000
    assert error is not None
    assert error.code in ("truncated", "undecodable")


@pytest.mark.parametrize("keep", [20, 400, -2000])
async def test_a_damaged_mp4_is_an_error_and_no_traceback(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "a.mp4", *FILES["a.mp4"])
    path.write_bytes(path.read_bytes()[:keep])
    _, error, _ = await read(path)
    assert error is not None
    assert error.code == "undecodable"
    assert error.message.startswith("a: can't be decoded")


async def test_noise_behind_a_good_start_never_hurts(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name in ("a.m4a", "opus.webm", "a.aac"):
        data = bytearray(write(tmp_path / name, *FILES[name]).read_bytes())
        for at in rng.integers(64, len(data), len(data) // 50):
            data[at] = int(rng.integers(256))
        (tmp_path / name).write_bytes(data)
        _, error, _ = await read(tmp_path / name)
        assert error is None or "the decoder ended" not in error.message


async def test_a_file_without_an_audio_track_is_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w", format="mp4") as file:
        track = file.add_stream("mpeg4", rate=5)
        track.width = track.height = 32
        track.pix_fmt = "yuv420p"
        for _ in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            file.mux(track.encode(picture))
        file.mux(track.encode(None))
    _, error, _ = await read(path)
    assert error is not None
    assert (error.code, error.message) == ("not_audio", "a: has no audio track")


@pytest.mark.parametrize(
    "playlist",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
    ],
)
async def test_a_playlist_opens_nothing(tmp_path: Path, playlist: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(playlist * 20)
    _, error, _ = await read(path)
    assert error is not None
    assert error.code == "not_audio"


def test_formats_are_told_by_their_first_bytes() -> None:
    assert container_of(b"\0\0\0\x1cftypM4A ") == "mp4"
    assert container_of(b"RIFF\0\0\0\0WAVEfmt ") == ""
    assert container_of(b"") == ""


def test_without_pyav_a_container_says_what_to_install(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", *FILES["a.m4a"])
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'av' else find(name, *rest)\n"
        "from agent.audio.decoder_process import main\n"
        "sys.exit(main([sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'funasr-agent[media]'" in done.stderr
    assert "not_audio" in done.stderr


async def test_a_child_that_gives_nothing_is_ended(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", *FILES["a.m4a"])
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    _, error, _ = await asyncio.wait_for(read(path, command=command, stall_s=0.3), 20)
    assert error is not None
    assert "gave nothing for 0.3 s" in error.message
