"""The decoding child: what it hands out, how it fails, that it is confined and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from agent.audio.decoder_process import decode_in_child
from agent.errors import MediaError
from agent.types import Int16

TONE = (12000 * np.sin(np.arange(48000) / 7)).astype(np.int16)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", TONE, 16000)
    return tmp_path / "a.wav"


async def collect(
    path: Path, *, name: str = "", command: Sequence[str] | None = None
) -> tuple[Int16, MediaError | None]:
    blocks: list[Int16] = [np.zeros(0, np.int16)]
    try:
        async for block in decode_in_child(path, name=name, command=command):
            blocks.append(block)
    except MediaError as error:
        return np.concatenate(blocks), error
    return np.concatenate(blocks), None


def script(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_the_child_hands_out_every_sample(wav: Path) -> None:
    samples, error = await collect(wav)
    assert error is None
    assert np.array_equal(samples, TONE)


async def test_a_relative_path_works(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wav.parent)
    assert np.array_equal((await collect(Path("a.wav")))[0], TONE)


async def test_what_is_not_audio_keeps_its_code_and_its_name(tmp_path: Path) -> None:
    upload = tmp_path / "upload-7f3a"
    upload.write_text("no audio at all " * 100)
    samples, error = await collect(upload, name="holiday.mp3")
    assert len(samples) == 0
    assert error is not None
    assert error.code == "not_audio"
    assert error.message.startswith("holiday.mp3: is not audio")
    assert "upload-7f3a" not in error.message


async def test_a_missing_file_is_told(tmp_path: Path) -> None:
    _, error = await collect(tmp_path / "gone.wav")
    assert error is not None
    assert error.code == "unreadable"


async def test_a_cut_file_gives_what_it_has_and_then_the_error(wav: Path) -> None:
    os.truncate(wav, len(TONE))
    samples, error = await collect(wav)
    assert np.array_equal(samples, TONE[: len(samples)])
    assert len(samples) > 20000
    assert error is not None
    assert error.code == "truncated"


async def test_odd_pipe_reads_are_joined(wav: Path) -> None:
    code = (
        "import sys, time\n"
        "for part in (b'\\x01', b'\\x00\\x02\\x00\\x03', b'\\x00'):\n"
        "    sys.stdout.buffer.write(part); sys.stdout.flush(); time.sleep(0.05)\n"
    )
    samples, error = await collect(wav, command=script(code))
    assert error is None
    assert samples.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("raise SystemExit(3)", "ended with exit status 3"),
        ("import os; os.kill(os.getpid(), 24)", "of processor time"),
        ("import sys; sys.stderr.write('[1]\\n{\\n'); raise SystemExit(1)", "exit status 1"),
    ],
)
async def test_a_child_that_dies_is_an_error(wav: Path, code: str, words: str) -> None:
    _, error = await collect(wav, name="a.wav", command=script(code))
    assert error is not None
    assert error.code == "undecodable"
    assert words in error.message


async def test_warnings_without_end_neither_block_nor_hide_the_error(wav: Path) -> None:
    code = (
        "import sys\n"
        "for _ in range(20000): sys.stderr.write('codec warning ' * 10 + '\\n')\n"
        'sys.stderr.write(\'{"code": "undecodable", "message": "a.wav: broken"}\\n\')\n'
        "raise SystemExit(1)\n"
    )
    _, error = await collect(wav, command=script(code))
    assert error is not None
    assert error.message == "a.wav: broken"


async def test_leaving_early_kills_the_child(wav: Path) -> None:
    code = (
        "import sys, time\nsys.stdout.buffer.write(bytes(100)); sys.stdout.flush()\ntime.sleep(60)"
    )
    async with contextlib.aclosing(decode_in_child(wav, command=script(code))) as blocks:
        async for _ in blocks:
            children = psutil.Process().children()
            assert len(children) == 1
            break
    assert not children[0].is_running()


async def test_cancelling_kills_the_child(wav: Path) -> None:
    task = asyncio.create_task(collect(wav, command=script("import time; time.sleep(60)")))
    children: list[psutil.Process] = []
    while not children:
        await asyncio.sleep(0.01)
        children = psutil.Process().children()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children[0].is_running()


async def test_a_slow_consumer_slows_the_child(wav: Path) -> None:
    code = (
        "import sys\n"
        "for i in range(1000):\n"
        "    sys.stdout.buffer.write(bytes(65536)); sys.stderr.write('.')\n"
    )
    async with contextlib.aclosing(decode_in_child(wav, command=script(code))) as blocks:
        await blocks.__anext__()
        child = psutil.Process().children()[0]
        await asyncio.sleep(0.3)
        assert child.is_running()  # 64 MB would have gone out long ago


CONFINED = """
import os, resource, sys
from pathlib import Path
from agent.audio import decoder_process as child
fd = os.open(sys.argv[1], os.O_RDONLY)
child._confine(fd)
print(resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_AS)[0],
      resource.getrlimit(resource.RLIMIT_CORE)[1])
try:
    open(sys.argv[1] + ".new", "w")
except OSError as error:
    print(error.strerror)
"""


def test_the_child_is_confined(wav: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, wav], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == f"900 {2 << 30} 0"
    assert second == "Too many open files"
    assert not os.path.exists(f"{wav}.new")


def test_the_child_loads_no_runtime() -> None:
    code = (
        "import sys, agent.audio.decoder_process, agent.audio.media\n"
        "print([m for m in ('onnxruntime', 'aiohttp', 'kaldi_native_fbank') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_child_wants_one_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.audio.decoder_process"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert '"code": "usage"' in done.stderr


def test_a_reader_that_goes_away_ends_the_child_quietly(wav: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "agent.audio.decoder_process", wav],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    said = child.stderr.read().decode()
    child.stderr.close()
    child.wait()
    assert "Traceback" not in said
