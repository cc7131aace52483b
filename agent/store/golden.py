"""Level 3, function: a model reads its golden audio as its maker recorded it.

A model without golden audio is run on a clip of speech and on silence: it must find speech where
there is speech, and nothing where there is none. A punctuation model gets a text instead, and may
add marks to it but change nothing else.
"""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from agent.errors import GoldenMismatch, ManifestError
from agent.stamps import MARKS
from agent.store.manifest import GoldenClip
from agent.store.roles import Role
from agent.store.verify import VerifiedModel
from agent.types import SAMPLE_RATE, Int16, StreamOptions

CLIP = "speech.wav"
CLIP_SPEECH_MS = (790, 2720)
"""Where the built-in clip has speech, of its four seconds."""
SENTENCES = "今天天气怎么样我们一起去公园吧好的明天见 well that sounds good to me how are you"
"""The built-in text for punctuation models."""
_SILENCE_S = 3
_CHUNK = SAMPLE_RATE // 10
_MAX_TOKENS_A_SECOND = 12
"""More than anybody speaks; a model with meaningless weights fires all the time."""
_MARGIN_MS = 200
_LEAST_FOUND = 0.5
_MOST_BESIDE_MS = 1000
"""A published VAD ends a segment 800 ms after the speech; it may add this to the clip's speech."""
_SHOWN = 60

Segments = list[tuple[int, int]]


@dataclass(frozen=True)
class GoldenResult:
    """What a passed check measured."""

    audio_s: float
    """0 for a text."""
    seconds: float
    """Time to read the audio or the text."""

    @property
    def rtf(self) -> float:
        """Seconds of work a second of audio."""
        return self.seconds / self.audio_s if self.audio_s else 0.0


def check_golden(
    role: Role,
    model: Any,
    files: VerifiedModel,
    *,
    runs: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> GoldenResult:
    """Run the check; the shortest of `runs` is measured.

    Raises GoldenMismatch, and what the model raises (InferenceError for outputs that are not
    numbers). Call it before the bytes of `files` are released.
    """
    golden = files.manifest.golden
    if role == "punctuation":
        return _check_marks(model, golden, runs, clock)
    audio = read_clip(files.read(golden.audio), golden.audio) if golden else built_in_clip()
    output, best = _shortest(lambda: _read(role, model, audio), runs, clock)
    if golden is not None:
        _compare(golden, output)
    else:
        _expect_speech(role, output)
        _expect_silence(role, _read(role, model, np.zeros(_SILENCE_S * SAMPLE_RATE, np.int16)))
    return GoldenResult(len(audio) / SAMPLE_RATE, best)


def read_clip(data: bytes, name: str) -> Int16:
    """Samples [n] of golden audio: 16 kHz mono s16le in a wav file. Raises ManifestError."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            found = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            if found != (SAMPLE_RATE, 1, 2):
                raise ManifestError(
                    f"is {found[0]} Hz, {found[1]} channels, {8 * found[2]} bits; golden audio "
                    f"must be {SAMPLE_RATE} Hz, mono, 16 bits",
                    file=name,
                )
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:
        reason = str(error) or "it is cut off"
        raise ManifestError(f"is not a wav file: {reason}", file=name) from None
    if not len(samples):
        raise ManifestError("holds no audio, so it proves nothing", file=name)
    return samples


def built_in_clip() -> Int16:
    """The clip of speech that models without golden audio are tried on, samples [n]."""
    return read_clip((resources.files("agent.store") / "clips" / CLIP).read_bytes(), CLIP)


def character_error_rate(found: str, wanted: str) -> float:
    """Edits by the length of `wanted`, spaces not counted (Levenshtein distance)."""
    a, b = found.replace(" ", ""), wanted.replace(" ", "")
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            cost = min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
            diagonal, row[j] = row[j], cost
    return row[-1] / max(1, len(b))


def _shortest(
    action: Callable[[], Any], runs: int, clock: Callable[[], float]
) -> tuple[Any, float]:
    """What the action gives, and the seconds of its shortest run."""
    best = float("inf")
    for _ in range(runs):
        started = clock()
        output = action()
        best = min(best, clock() - started)
    return output, best


def _check_marks(
    model: Any, golden: GoldenClip | None, runs: int, clock: Callable[[], float]
) -> GoldenResult:
    """A punctuation model puts the recorded marks into its golden text, or only marks into the
    built-in one."""
    text = golden.input if golden else SENTENCES
    output, best = _shortest(lambda: model.punctuate(text), runs, clock)
    if golden is not None:
        _compare_text(golden, output, "golden.input")
    elif _letters(output) != _letters(text):
        raise GoldenMismatch(
            f"it makes {_short(output)!r} of {_short(text)!r}; a punctuation model may add marks "
            "and change nothing else"
        )
    return GoldenResult(0.0, best)


def _letters(text: str) -> str:
    """Without spaces and marks."""
    return "".join(char for char in text if char not in MARKS and not char.isspace())


def _read(role: Role, model: Any, audio: Int16) -> Any:
    """What the model makes of the audio: Segments of a VAD, else a Recognition."""
    if role == "vad":
        return _segments(model, audio)
    if role == "asr_online":
        stream = model.start_stream(StreamOptions())
        for first in range(0, len(audio), _CHUNK):
            stream.accept(audio[first : first + _CHUNK])
        return stream.finish()
    return model.decode([audio], StreamOptions())[0]


def _segments(model: Any, audio: Int16) -> Segments:
    stream = model.start_stream()
    found = []
    for first in range(0, len(audio), _CHUNK):
        found += stream.accept(audio[first : first + _CHUNK])
    found += stream.finish()
    starts = [boundary.ms for boundary in found if boundary.kind == "start"]
    ends = [boundary.ms for boundary in found if boundary.kind == "end"]
    return list(zip(starts, ends, strict=True))


def _compare(golden: GoldenClip, output: Any) -> None:
    if golden.segments is not None and isinstance(output, list):
        _compare_segments(golden, output)
    elif golden.text is not None and not isinstance(output, list):
        _compare_text(golden, output.text, golden.audio)
    else:
        raise ManifestError(
            "golden says nothing that can be compared: a VAD needs `segments`, a recogniser `text`",
            file="manifest.yaml",
        )


def _compare_text(golden: GoldenClip, text: str, where: str) -> None:
    if golden.text is None:
        raise ManifestError("golden says nothing that can be compared: it needs `text`", file=where)
    rate = character_error_rate(text, golden.text)
    if rate > golden.max_cer:
        raise GoldenMismatch(
            f"it reads {_short(text)!r}, its maker recorded {_short(golden.text)!r} "
            f"({100 * rate:.0f} % of the characters differ, {100 * golden.max_cer:.0f} % are "
            "allowed); the model or this runtime is not what it was made for",
            file=where,
        )


def _compare_segments(golden: GoldenClip, found: Segments) -> None:
    wanted = list(golden.segments or ())
    close = len(found) == len(wanted) and all(
        abs(a - b) <= golden.tolerance_ms
        for pair, right in zip(found, wanted, strict=True)
        for a, b in zip(pair, right, strict=True)
    )
    if not close:
        raise GoldenMismatch(
            f"it finds speech at {_spans(found)}, its maker recorded {_spans(wanted)} "
            f"(within {golden.tolerance_ms} ms); the model or this runtime is not what it was "
            "made for",
            file=golden.audio,
        )


def _expect_speech(role: Role, output: Any) -> None:
    start, end = CLIP_SPEECH_MS
    if role == "vad":
        inside = sum(max(0, min(e, end) - max(s, start)) for s, e in output)
        beside = sum(e - s for s, e in output) - inside
        if inside < _LEAST_FOUND * (end - start) or beside > _MOST_BESIDE_MS + _MARGIN_MS:
            raise GoldenMismatch(
                f"it finds speech at {_spans(output)} in a clip that has it at "
                f"{_spans([CLIP_SPEECH_MS])}; its weights are not those of a voice detector"
            )
        return
    tokens = len(output.tokens)
    if not 1 <= tokens <= _MAX_TOKENS_A_SECOND * (end - start) / 1000:
        raise GoldenMismatch(
            f"it reads {tokens} tokens ({_short(output.text)!r}) in {(end - start) / 1000:.1f} s "
            "of speech; its weights are not those of a recogniser"
        )


def _expect_silence(role: Role, output: Any) -> None:
    if role == "vad" and output:
        raise GoldenMismatch(f"it finds speech at {_spans(output)} in silence")
    if role != "vad" and output.tokens:
        raise GoldenMismatch(
            f"it reads {_short(output.text)!r} ({len(output.tokens)} tokens) in {_SILENCE_S} s "
            "of silence; its weights are not those of a recogniser"
        )


def _spans(segments: Segments) -> str:
    return ", ".join(f"{start}-{end} ms" for start, end in segments) or "no place"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
