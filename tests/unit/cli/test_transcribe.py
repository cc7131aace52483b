"""`transcribe` with a fake recogniser: outputs, failures, names."""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agent.cli import build_parser
from agent.commands.common import readable
from agent.commands.output import FileResult, OutputFolder, render
from agent.commands.progress import FileProgress
from agent.commands.recogniser import Recogniser
from agent.commands.transcribe import transcribe
from agent.config import Config
from agent.errors import ModelLoadError
from agent.types import (
    Int16,
    RecognitionMode,
    SpeechSegment,
    StreamError,
    StreamEvent,
    StreamOptions,
    Transcript,
    VoiceStarted,
)


class FakeSession:
    """Hears one segment in the first second that arrives and nothing else."""

    def __init__(self, options: StreamOptions, name: str) -> None:
        self.name = readable(Path(name).stem)
        self.taken = 0

    def accept(self, samples: Int16) -> list[StreamEvent | SpeechSegment]:
        if self.name == "crash":
            raise ValueError("no such tensor")
        if self.name == "fail":
            return [StreamError("s", "stream_failed", "the recogniser failed")]
        self.taken += len(samples)
        return []

    def finish(self) -> list[StreamEvent | SpeechSegment]:
        if not self.taken:
            return []
        partial = Transcript("s", 0, "par", False, 100, 200)
        segment = SpeechSegment(0, 100, 900, np.zeros(12800, np.int16))
        return [VoiceStarted("s", 0, 100), partial, segment]

    def decode(self, segment: SpeechSegment) -> Transcript:
        return Transcript(
            "s", segment.id, f"打开 {self.name}", True, 100, 900, ("打开",), ((110, 400),)
        )


def fake_recogniser(config: Config, model: str | None, warn: Callable[[str], None]) -> Recogniser:
    if model == "broken":
        raise ModelLoadError("broken can't be loaded")
    ids = {"vad": "ears", "asr_offline": model or "reader"}
    return Recogniser(ids, RecognitionMode.OFFLINE, FakeSession)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "crash", "fail"):
        soundfile.write(f"{name}.wav", np.zeros(24000, np.int16), 16000)
    Path("notes.txt").write_text("not audio")
    Path("sub").mkdir()
    soundfile.write("sub/a.wav", np.zeros(8000, np.int16), 8000)


def run(*arguments: str) -> int:
    args: argparse.Namespace = build_parser().parse_args(["transcribe", *arguments])
    return transcribe(args, recogniser_for=fake_recogniser)


def test_one_file_as_text_is_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.wav") == 0
    assert capsys.readouterr() == ("打开 a\n", "")


def test_several_files_as_text_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.wav", "sub/a.wav") == 0
    assert capsys.readouterr().out == "a.wav\t打开 a\nsub/a.wav\t打开 a\n"


def test_json_is_one_object_a_line_with_the_keys_of_the_contract(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("a.wav", "b.wav", "--format", "json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    record = json.loads(lines[0])
    assert 0 < record.pop("rtf") < 1
    assert record == {
        "file": "a.wav",
        "duration_s": 1.5,
        "text": "打开 a",
        "segments": [
            {
                "start_ms": 100,
                "end_ms": 900,
                "text": "打开 a",
                "tokens": ["打开"],
                "timestamps": [[110, 400]],
            }
        ],
        "models": {"vad": "ears", "asr_offline": "reader"},
    }
    assert "打开" in lines[0]


def test_srt_and_vtt(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.wav", "--format", "srt") == 0
    assert capsys.readouterr().out == "1\n00:00:00,100 --> 00:00:00,900\n打开 a\n"
    assert run("a.wav", "--format", "vtt") == 0
    assert capsys.readouterr().out.startswith("WEBVTT\n\n00:00:00.100")


def test_several_subtitles_need_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.wav", "b.wav", "--format", "srt") == 2
    assert "need --output DIR" in capsys.readouterr().err


def test_a_file_that_fails_is_named_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("notes.txt", "gone.wav", "crash.wav", "fail.wav", "sub", "a.wav") == 1
    out, err = capsys.readouterr()
    assert out == "a.wav\t打开 a\n"
    said = err.splitlines()
    assert said[0].startswith("funasr-agent: notes.txt: is not audio")
    assert "gone.wav: no such file" in said[1]
    assert "crash.wav: can't be recognised: ValueError: no such tensor" in said[2]
    assert said[3] == "funasr-agent: fail.wav: the recogniser failed"
    assert "sub: is a folder" in said[4]


def test_of_a_cut_file_what_is_there_is_written_and_the_loss_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.truncate("a.wav", 30000)
    assert run("a.wav", "--format", "json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] == "打开 a"
    assert json.loads(out)["duration_s"] < 1
    assert "a.wav: ends after 0.9 s of 1.5 s" in err


def test_an_empty_recording_has_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("silent.wav", np.zeros(0, np.int16), 16000)
    assert run("silent.wav", "--format", "json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["duration_s"], record["text"], record["rtf"]) == (0.0, "", 0.0)


def test_a_model_that_can_not_load_stops_it() -> None:
    with pytest.raises(ModelLoadError):
        run("a.wav", "--model", "broken")


def test_the_chosen_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.wav", "--model", "mine", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["models"]["asr_offline"] == "mine"


@pytest.mark.parametrize(("name", "ending"), [("text", "txt"), ("json", "json"), ("srt", "srt")])
def test_output_goes_into_the_folder(
    name: str, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("a.wav", "b.wav", "--format", name, "--output", "out/deep") == 0
    assert sorted(os.listdir("out/deep")) == [f"a.{ending}", f"b.{ending}"]
    assert capsys.readouterr().out == ""
    if name == "text":
        assert Path("out/deep/a.txt").read_text(encoding="utf-8") == "打开 a\n"


def test_two_inputs_never_share_an_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.wav", "sub/a.wav", "--output", "out") == 2
    assert "sub/a.wav and a.wav would both be written to out/a.txt" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_collection_that_clashes_is_told_in_a_few_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*["a.wav"] * 20, "--output", "out") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6
    assert said[-1].endswith("and 14 more like that")


def test_an_input_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    os.rename("a.wav", "a.txt")
    assert run("a.txt", "--output", ".") == 2
    assert "a.txt is an input" in capsys.readouterr().err
    assert soundfile.info("a.txt").frames == 24000


def test_an_output_folder_that_can_not_be_made_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("a.wav", "--output", "notes.txt/sub") == 1
    assert "a.wav: " in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = OutputFolder(tmp_path / "out", "text")
    folder.write("a.wav", "old")

    def fail(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        folder.write("a.wav", "new")
    assert os.listdir(tmp_path / "out") == ["a.txt"]
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


def test_names_that_are_not_utf_8_are_shown_anyway(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    soundfile.write(
        os.open(name, os.O_RDWR | os.O_CREAT), np.zeros(100, np.int16), 16000, format="WAV"
    )
    assert run(name, "a.wav") == 0
    assert "caf�.wav\t" in capsys.readouterr().out


def test_codec_warnings_do_not_reach_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    hiss = np.random.default_rng(0).normal(0, 3000, 48000).astype(np.int16)
    soundfile.write("hiss.mp3", hiss, 16000)
    data = bytearray(Path("hiss.mp3").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(range(200))
    Path("hiss.mp3").write_bytes(data)
    run("hiss.mp3")
    assert "mpg123" not in capfd.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_only() -> None:
    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        with FileProgress(2, stream) as progress:
            progress.start_file("[b]a[/b].wav")
            progress.advance(1.0, 2.0)
            with progress.aside():
                pass
            progress.advance(1.0, None)
            progress.end_file()
        assert ("[b]a[/b].wav" in stream.getvalue()) is drawn


def test_joined_text_of_segments() -> None:
    said = Transcript("s", 0, "turn on", True, 0, 1)
    result = FileResult("a", 1.0, (said, replace(said, text="the light")), {}, 0.25)
    assert render(result, "text") == "turn on the light\n"
    assert result.rtf == 0.25
