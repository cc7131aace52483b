"""Level 3: a model that does not read its golden audio, or hears what is not there, is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.errors import GoldenMismatch, InferenceError, ManifestError
from agent.store.golden import (
    CLIP_SPEECH_MS,
    GoldenResult,
    built_in_clip,
    character_error_rate,
    check_golden,
    read_clip,
)
from agent.store.manifest import GoldenClip, Manifest, Variant, read_manifest
from agent.store.roles import Role
from agent.store.verify import VerifiedModel, read_verified
from agent.types import Int16, Recognition, StreamOptions, VadBoundary
from tests.model_loading.graphs import tiny_paraformer, tiny_vad
from tests.model_loading.tiny_models import Files, asr_files, tone_wav, vad_files, write_model

TEXT = GoldenClip("golden.wav", text="打开 客厅的灯")
SPEECH = GoldenClip("golden.wav", segments=((1000, 2000), (3000, 4000)), tolerance_ms=50)
CHARACTERS = st.text("ab 灯", max_size=8)


def files_of(golden: GoldenClip | None, audio: bytes | None = None) -> VerifiedModel:
    """A model of which only the golden audio is read."""
    variant = Variant("fp32", "cpu", {"model": "model.onnx"})
    manifest = Manifest("fake", "fake", "vad", {}, (variant,), "0" * 64, golden=golden)
    manifest = dataclasses.replace(manifest, files={"golden.wav": None})  # type: ignore[dict-item]
    return VerifiedModel(manifest, variant, {"golden.wav": tone_wav() if audio is None else audio})


class Reader:
    """A recogniser of both kinds that says `text` of speech, and `of_silence` of silence."""

    def __init__(self, text: str, of_silence: str = "") -> None:
        self._says = (text, of_silence)
        self._loud = False
        self.heard = 0

    def _read(self) -> Recognition:
        text = self._says[0] if self._loud else self._says[1]
        return Recognition(text, tuple(text))

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        (samples,) = batch
        self.accept_all(samples)
        return [self._read()]

    def start_stream(self, options: StreamOptions) -> Reader:
        self._loud = False
        return self

    def accept(self, samples: Int16) -> None:
        assert len(samples) <= 1600
        self.heard += len(samples)
        self._loud |= bool(np.abs(samples).max() > 0)

    def accept_all(self, samples: Int16) -> None:
        self._loud = bool(np.abs(samples).max() > 0)
        self.heard += len(samples)

    def finish(self) -> Recognition:
        return self._read()


class Detector:
    """A VAD that finds `segments` in sound, and `in_silence` in silence."""

    def __init__(self, *segments: tuple[int, int], in_silence: Sequence[tuple[int, int]] = ()):
        self._finds = (segments, in_silence)
        self._loud = False

    def start_stream(self) -> Detector:
        self._loud = False
        return self

    def accept(self, samples: Int16) -> list[VadBoundary]:
        self._loud |= bool(np.abs(samples).max() > 0)
        return []

    def finish(self) -> list[VadBoundary]:
        found = self._finds[0] if self._loud else self._finds[1]
        return [
            boundary
            for start, end in found
            for boundary in (VadBoundary("start", start), VadBoundary("end", end))
        ]


@pytest.mark.parametrize("role", ["asr_online", "asr_offline"])
def test_the_golden_text_is_read_whatever_its_spaces(role: Role) -> None:
    model = Reader("打开客厅 的灯")
    result = check_golden(role, model, files_of(TEXT))
    assert result.audio_s == 3.0
    assert model.heard == 48000


@pytest.mark.parametrize("role", ["asr_online", "asr_offline"])
def test_another_text_is_refused_and_both_are_told(role: Role) -> None:
    with pytest.raises(GoldenMismatch) as caught:
        check_golden(role, Reader("打开客厅的门"), files_of(TEXT))
    assert caught.value.message == (
        "golden.wav: it reads '打开客厅的门', its maker recorded '打开 客厅的灯' (17 % of the "
        "characters differ, 0 % are allowed); the model or this runtime is not what it was made for"
    )


@pytest.mark.parametrize(("max_cer", "passes"), [(0.16, False), (0.17, True), (1.0, True)])
def test_the_text_may_differ_as_far_as_its_maker_allows(max_cer: float, passes: bool) -> None:
    golden = dataclasses.replace(TEXT, max_cer=max_cer)
    if passes:
        check_golden("asr_offline", Reader("打开客厅的门"), files_of(golden))
    else:
        with pytest.raises(GoldenMismatch, match="16 % are allowed"):
            check_golden("asr_offline", Reader("打开客厅的门"), files_of(golden))


def test_long_texts_are_told_by_their_heads() -> None:
    with pytest.raises(GoldenMismatch) as caught:
        check_golden("asr_offline", Reader("灯" * 10_000), files_of(TEXT))
    assert len(caught.value.message) < 400
    assert "灯..." in caught.value.message


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        ([(1000, 2000), (3000, 4000)], True),
        ([(950, 2050), (3050, 3950)], True),
        ([(949, 2000), (3000, 4000)], False),
        ([(1000, 2000), (3000, 4051)], False),
        ([(1000, 2000)], False),
        ([(1000, 2000), (3000, 4000), (5000, 5100)], False),
        ([], False),
    ],
)
def test_segments_are_compared_within_their_tolerance(
    found: list[tuple[int, int]], passes: bool
) -> None:
    model, files = Detector(*found), files_of(SPEECH)
    if passes:
        check_golden("vad", model, files)
        return
    with pytest.raises(GoldenMismatch) as caught:
        check_golden("vad", model, files)
    told = ", ".join(f"{start}-{end} ms" for start, end in found) or "no place"
    assert f"golden.wav: it finds speech at {told}, its maker recorded" in caught.value.message
    assert "1000-2000 ms, 3000-4000 ms (within 50 ms)" in caught.value.message


def test_golden_silence_is_silence() -> None:
    nothing = dataclasses.replace(SPEECH, segments=())
    check_golden("vad", Detector(), files_of(nothing))
    with pytest.raises(GoldenMismatch, match=r"recorded no place"):
        check_golden("vad", Detector((0, 100)), files_of(nothing))


@pytest.mark.parametrize(
    ("role", "model", "golden"),
    [
        ("vad", Detector(), TEXT),
        ("asr_offline", Reader(""), SPEECH),
        ("asr_online", Reader(""), GoldenClip("golden.wav")),
    ],
)
def test_a_golden_that_says_nothing_for_the_role_is_the_manifests_fault(
    role: Role, model: Any, golden: GoldenClip
) -> None:
    with pytest.raises(ManifestError, match="a VAD needs `segments`, a recogniser `text`"):
        check_golden(role, model, files_of(golden))


MARKED = GoldenClip("", text="你好，世界。", input="你好世界")


class Marks:
    """A punctuation model that gives what it is told to."""

    def __init__(self, *replaced: tuple[str, str], end: str = "") -> None:
        self._replaced, self._end = replaced, end

    def punctuate(self, text: str) -> str:
        for old, new in self._replaced:
            text = text.replace(old, new)
        return text + self._end


def test_the_golden_text_gets_its_marks() -> None:
    result = check_golden("punctuation", Marks(("好", "好，"), end="。"), files_of(MARKED), runs=2)
    assert (result.audio_s, result.rtf) == (0.0, 0.0)


def test_other_marks_in_the_golden_text_are_refused() -> None:
    with pytest.raises(GoldenMismatch) as caught:
        check_golden("punctuation", Marks(end="？"), files_of(MARKED))
    assert "golden.input: it reads '你好世界？', its maker recorded '你好，世界。'" in (
        caught.value.message
    )
    tolerant = dataclasses.replace(MARKED, max_cer=0.5)
    check_golden("punctuation", Marks(end="？"), files_of(tolerant))


@pytest.mark.parametrize("model", [Marks(), Marks(("好", "好，"), ("you", "you?"), end="。")])
def test_an_adopted_punctuation_model_may_add_marks(model: Marks) -> None:
    check_golden("punctuation", model, files_of(None))


@pytest.mark.parametrize("model", [Marks(("天", "地")), Marks(end="x"), Marks(("well", "Well"))])
def test_an_adopted_punctuation_model_may_change_nothing_else(model: Marks) -> None:
    with pytest.raises(GoldenMismatch, match="may add marks and change nothing else"):
        check_golden("punctuation", model, files_of(None))


def test_a_golden_text_without_its_marks_proves_nothing() -> None:
    golden = dataclasses.replace(MARKED, text=None)
    with pytest.raises(ManifestError, match="needs `text`"):
        check_golden("punctuation", Marks(), files_of(golden))


def test_the_shortest_run_is_measured() -> None:
    ticks = iter([0.0, 3.0, 10.0, 11.5, 20.0, 22.0])
    model = Reader("打开客厅的灯")
    result = check_golden("asr_offline", model, files_of(TEXT), runs=3, clock=lambda: next(ticks))
    assert result == GoldenResult(audio_s=3.0, seconds=1.5)
    assert result.rtf == 0.5
    assert model.heard == 3 * 48000


# Golden audio.


def wav(rate: int = 16000, channels: int = 1, width: int = 2, frames: int = 800) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(bytes(frames * channels * width))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (wav(rate=8000), "is 8000 Hz, 1 channels, 16 bits; golden audio must be 16000 Hz"),
        (wav(channels=2), "is 16000 Hz, 2 channels, 16 bits"),
        (wav(width=1), "is 16000 Hz, 1 channels, 8 bits"),
        (wav(width=4), "is 16000 Hz, 1 channels, 32 bits"),
        (wav(frames=0), "holds no audio, so it proves nothing"),
        (b"", "is not a wav file: it is cut off"),
        (wav()[:30], "is not a wav file"),
        (wav()[:-1], "is not a wav file"),
        (b"fLaC" + bytes(100), "is not a wav file: file does not start with RIFF id"),
    ],
)
def test_golden_audio_of_another_kind_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        check_golden("asr_offline", Reader(""), files_of(TEXT, data))
    assert caught.value.message.startswith(f"golden.wav: {told}")


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 60), value=st.binary(max_size=4), length=st.integers(0, 64))
def test_no_wav_file_raises_anything_else(at: int, value: bytes, length: int) -> None:
    data = wav(frames=10)
    data = (data[:at] + value + data[at + len(value) :])[:length]
    with contextlib.suppress(ManifestError):
        assert read_clip(data, "golden.wav").dtype == np.int16


def test_the_built_in_clip_has_its_speech_where_it_is_said_to_be() -> None:
    clip = built_in_clip()
    assert clip.dtype == np.int16
    start, end = (ms * 16 for ms in CLIP_SPEECH_MS)
    energy = clip.astype(np.float64) ** 2
    assert energy[start:end].sum() == energy.sum() > 0
    loud = np.flatnonzero(np.abs(clip) > 1000)
    assert loud[-1] - loud[0] > (end - start) // 2
    assert 4.0 < len(clip) / 16000 < 4.1


# Models without golden audio: the built-in clip and silence.

START, END = CLIP_SPEECH_MS


@pytest.mark.parametrize("role", ["asr_online", "asr_offline"])
def test_a_recogniser_that_reads_speech_and_no_silence_passes(role: Role) -> None:
    check_golden(role, Reader("打开客厅的灯"), files_of(None))
    check_golden(role, Reader("a" * 23), files_of(None))


@pytest.mark.parametrize("role", ["asr_online", "asr_offline"])
@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Reader(""), "it reads 0 tokens ('') in 1.9 s of speech"),
        (Reader("a" * 24), "it reads 24 tokens"),
        (Reader("灯", of_silence="灯"), "it reads '灯' (1 tokens) in 3 s of silence"),
    ],
)
def test_a_recogniser_that_does_not_is_refused(role: Role, model: Reader, told: str) -> None:
    with pytest.raises(GoldenMismatch) as caught:
        check_golden(role, model, files_of(None))
    assert caught.value.message.startswith(told)
    assert "its weights are not those of a recogniser" in caught.value.message


@pytest.mark.parametrize(
    "segments",
    [
        [(START, END)],
        [(START, END + 800)],
        [(0, END)],
        [(START, 1500), (1700, END)],
        [(START, START + 965)],
    ],
)
def test_a_vad_that_finds_the_speech_passes(segments: list[tuple[int, int]]) -> None:
    check_golden("vad", Detector(*segments), files_of(None))


@pytest.mark.parametrize(
    "segments",
    [
        [],
        [(0, 4034)],
        [(0, START), (END, 4034)],
        [(START, START + 964)],
        [(START, END), (END + 10, END + 1211)],
        [(0, START)],
    ],
)
def test_a_vad_that_does_not_is_refused(segments: list[tuple[int, int]]) -> None:
    with pytest.raises(GoldenMismatch, match=r"in a clip that has it at 790-2720 ms; its weights"):
        check_golden("vad", Detector(*segments), files_of(None))


def test_a_vad_that_finds_speech_in_silence_is_refused() -> None:
    model = Detector((START, END), in_silence=[(100, 900)])
    with pytest.raises(GoldenMismatch, match="it finds speech at 100-900 ms in silence"):
        check_golden("vad", model, files_of(None))


# Real graphs.


def without_numbers(data: bytes, constant: str) -> bytes:
    """The graph with a constant of NaN."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name == constant:
            values = np.full(numpy_helper.to_array(tensor).shape, np.nan, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, constant))
    return bytes(model.SerializeToString())


def check_real(folder: Path, files: Files) -> GoldenResult:
    manifest = read_manifest(write_model(folder, "tiny", files))
    role: Role = manifest.task  # type: ignore[assignment]
    with read_verified(manifest, folder / "tiny") as verified:
        return check_golden(role, load_model(manifest.family, verified, EngineSettings()), verified)


@pytest.mark.parametrize("files", [vad_files(), asr_files()], ids=["vad", "asr"])
def test_sound_graphs_pass(files: Files, tmp_path: Path) -> None:
    assert 0 < check_real(tmp_path, files).rtf < 1


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (vad_files(model_onnx=tiny_vad(slope=0.0)), "it finds speech at"),
        (vad_files(model_onnx=tiny_vad(slope=-2.0)), "it finds speech at"),
        (vad_files(model_onnx=tiny_vad(slope=1e-9)), "it finds speech at"),
        (asr_files(model_onnx=tiny_paraformer(frames_a_token=1e6)), "it reads 0 tokens"),
        (asr_files(model_onnx=tiny_paraformer(frames_a_token=0.1)), "it reads"),
        (asr_files(model_onnx=tiny_paraformer(frames_a_token=float("nan"))), "it reads 0 tokens"),
    ],
)
def test_graphs_with_meaningless_weights_are_refused(
    files: Files, told: str, tmp_path: Path
) -> None:
    with pytest.raises(GoldenMismatch) as caught:
        check_real(tmp_path, files)
    assert caught.value.message.startswith(told)


@pytest.mark.parametrize(
    "files",
    [
        vad_files(model_onnx=without_numbers(tiny_vad(), "slope")),
        asr_files(model_onnx=without_numbers(tiny_paraformer(), "bias")),
    ],
    ids=["vad", "asr"],
)
def test_outputs_that_are_no_numbers_are_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="not a number"):
        check_real(tmp_path, files)


@pytest.mark.parametrize("model_id", ["builtin-vad", "builtin-online", "builtin-offline"])
def test_the_models_that_come_with_the_agent_pass_with_and_without_their_golden_audio(
    model_id: str, root: Path
) -> None:
    folder = root / "models" / model_id
    manifest = read_manifest(folder)
    role: Role = manifest.task  # type: ignore[assignment]
    for golden in (manifest.golden, None):
        with read_verified(dataclasses.replace(manifest, golden=golden), folder) as files:
            check_golden(role, load_model(manifest.family, files, EngineSettings()), files)


# Character error rate.


@pytest.mark.parametrize(
    ("found", "wanted", "rate"),
    [
        ("", "", 0.0),
        ("abc", "abc", 0.0),
        ("a b c", "ab c", 0.0),
        ("", "abcd", 1.0),
        ("abcd", "", 4.0),
        ("kitten", "sitting", 3 / 7),
        ("打开客厅的灯", "打开卧室的灯", 2 / 6),
        ("灯打开", "打开灯", 2 / 3),
        ("aaaaaa", "a", 5.0),
    ],
)
def test_known_rates(found: str, wanted: str, rate: float) -> None:
    assert character_error_rate(found, wanted) == pytest.approx(rate)


@given(a=CHARACTERS, b=CHARACTERS, c=CHARACTERS)
def test_the_rate_is_a_distance_by_length(a: str, b: str, c: str) -> None:
    def edits(found: str, wanted: str) -> float:
        length = max(1, len(wanted.replace(" ", "")))
        return round(character_error_rate(found, wanted) * length, 6)

    plain_a, plain_b = a.replace(" ", ""), b.replace(" ", "")
    assert edits(a, b) == edits(b, a)
    assert (edits(a, b) == 0) == (plain_a == plain_b)
    assert edits(a, c) <= edits(a, b) + edits(b, c)
    assert abs(len(plain_a) - len(plain_b)) <= edits(a, b) <= max(len(plain_a), len(plain_b))
