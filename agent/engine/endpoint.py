"""From speech probabilities of frames to starts and ends of speech.

The rules and parameter names are FunASR's (FSMN-VAD, `E2EVadModel`): a sliding window decides
whether the stream is in speech, look-back and look-ahead widen the segment, silence or length
ends it. State is a handful of numbers, however long the stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from agent.errors import ManifestError
from agent.types import SAMPLE_RATE, Float32, VadBoundary

SINGLE_UTTERANCE = 0
"""`detect_mode` that stops after the first segment."""
_UNSET_DECIBEL = -99.9


@dataclass(frozen=True)
class VadParameters:
    """Post-processing parameters under FunASR's names, all that are published; times in ms.

    In FunASR's code, too, snr_mode, do_start_point_detection, do_end_point_detection,
    fe_prior_thres, silence_pdf_num, speech_noise_thresh_low, speech_noise_thresh_high and
    output_frame_probs decide nothing.
    """

    sample_rate: int = SAMPLE_RATE
    detect_mode: int = 1
    snr_mode: int = 0
    max_end_silence_time: int = 800
    max_start_silence_time: int = 3000
    do_start_point_detection: bool = True
    do_end_point_detection: bool = True
    window_size_ms: int = 200
    sil_to_speech_time_thres: int = 150
    speech_to_sil_time_thres: int = 150
    speech_2_noise_ratio: float = 1.0
    do_extend: int = 1
    lookback_time_start_point: int = 200
    lookahead_time_end_point: int = 100
    max_single_segment_time: int = 60000
    snr_thres: float = -100.0
    noise_frame_num_used_for_snr: int = 100
    decibel_thres: float = -100.0
    speech_noise_thres: float = 0.6
    fe_prior_thres: float = 1e-4
    silence_pdf_num: int = 1
    sil_pdf_ids: tuple[int, ...] = (0,)
    speech_noise_thresh_low: float = -0.1
    speech_noise_thresh_high: float = 0.3
    output_frame_probs: bool = False
    frame_in_ms: int = 10
    frame_length_ms: int = 25

    @classmethod
    def from_config(cls, *sources: Mapping[str, Any]) -> VadParameters:
        """Later sources win; keys that are no parameters are passed over.

        Raises ManifestError for a value of the wrong type.
        """
        merged = {key: value for source in sources for key, value in source.items()}
        chosen: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in merged:
                continue
            value = merged[field.name]
            try:
                chosen[field.name] = _READ[str(field.type)](value)
            except (TypeError, ValueError):
                raise ManifestError(
                    f"model_conf.{field.name}: {value!r} is not a {field.type}",
                    file="config.yaml",
                ) from None
        made = cls(**chosen)
        if made.frame_in_ms < 1 or made.window_size_ms < made.frame_in_ms:
            raise ManifestError(
                f"model_conf: window_size_ms {made.window_size_ms} holds no frame of "
                f"{made.frame_in_ms} ms",
                file="config.yaml",
            )
        return made

    def to_json(self) -> dict[str, Any]:
        """Every parameter by its name."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def frames(self, ms: float) -> int:
        """Whole frames in `ms`."""
        return int(ms / self.frame_in_ms)


_READ: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "tuple[int, ...]": lambda value: tuple(int(item) for item in value),
}


class SpeechDecision:
    """Which frames are speech, by probability, loudness and signal-to-noise ratio."""

    def __init__(self, parameters: VadParameters) -> None:
        self._p = parameters
        self._noise_decibel = -100.0

    def decide(self, probabilities: Float32, decibels: Float32) -> list[bool]:
        """One decision for each frame.

        `probabilities` [n, classes] are the graph's output, `decibels` [n] the frames' levels.
        """
        silence = probabilities[:, list(self._p.sil_pdf_ids)].sum(axis=1, dtype=np.float64)
        noise = silence**self._p.speech_2_noise_ratio
        likely = (1.0 - silence) >= noise + self._p.speech_noise_thres
        return [
            self._audible(bool(speech), float(level))
            for speech, level in zip(likely, decibels, strict=True)
        ]

    def _audible(self, speech: bool, level: float) -> bool:
        if level < self._p.decibel_thres:
            return False
        if speech:
            return level - self._noise_decibel >= self._p.snr_thres
        frames = self._p.noise_frame_num_used_for_snr
        if self._noise_decibel < _UNSET_DECIBEL:
            self._noise_decibel = level
        else:
            self._noise_decibel = (level + self._noise_decibel * (frames - 1)) / frames
        return False


class EndpointDetector:
    """Frame decisions to boundaries, one frame at a time."""

    def __init__(self, parameters: VadParameters) -> None:
        p = self._p = parameters
        self._onset = p.frames(p.sil_to_speech_time_thres)
        self._release = p.frames(p.speech_to_sil_time_thres)
        self._latency = p.frames(p.window_size_ms)
        if p.do_extend:
            self._latency += p.frames(p.lookback_time_start_point)
        self._end_silence_ms = max(0, p.max_end_silence_time - p.speech_to_sil_time_thres)
        self._frame = -1
        self._free_from = 0
        """First frame that no segment holds and no silence has passed for good."""
        self._segment_start: int | None = None
        self._closed = False
        self._speaking = False
        self._reset_window()

    def accept(self, speech: Sequence[bool]) -> list[VadBoundary]:
        """Take the next decisions; the boundaries that they make."""
        out: list[VadBoundary] = []
        for decision in speech:
            self._step(decision, out, is_last=False)
        return out

    def finish(self, speech: Sequence[bool]) -> list[VadBoundary]:
        """The last decisions of the stream; what is still open ends with them."""
        out = self.accept(speech[:-1])
        if speech:
            self._step(speech[-1], out, is_last=True)
        if self._segment_start is not None:
            self._end(self._frame, out)
        return out

    def _step(self, speech: bool, out: list[VadBoundary], *, is_last: bool) -> None:
        self._frame += 1
        if self._closed:
            return
        was_speaking = self._speaking
        self._slide(speech)
        if self._segment_start is None:
            self._outside(was_speaking, out)
        else:
            self._inside(was_speaking, out, is_last=is_last)

    def _slide(self, speech: bool) -> None:
        """Move the window by one frame and decide whether the stream is in speech."""
        if len(self._window) == self._window.maxlen:
            self._sum -= self._window[0]
        self._window.append(speech)
        self._sum += speech
        if not self._speaking and self._sum >= self._onset:
            self._speaking = True
        elif self._speaking and self._sum <= self._release:
            self._speaking = False

    def _outside(self, was_speaking: bool, out: list[VadBoundary]) -> None:
        """No segment is open: one may start, or silence goes on."""
        if self._speaking and not was_speaking:
            self._silent_frames = 0
            start = max(self._free_from, self._frame - self._latency)
            self._segment_start = start
            self._free_from = self._frame + 1
            out.append(VadBoundary("start", start * self._p.frame_in_ms))
            return
        if self._speaking or was_speaking:
            self._silent_frames = 0
            return
        self._silent_frames += 1
        timed_out = self._silent_frames * self._p.frame_in_ms > self._p.max_start_silence_time
        if self._p.detect_mode == SINGLE_UTTERANCE and timed_out:
            self._closed = True
        else:
            self._free_from = max(self._free_from, self._frame - self._latency)

    def _inside(self, was_speaking: bool, out: list[VadBoundary], *, is_last: bool) -> None:
        """A segment is open: it may end by silence, by its length, or with the stream."""
        silent = not self._speaking and not was_speaking
        self._silent_frames = self._silent_frames + 1 if silent else 0
        if silent and self._silent_frames * self._p.frame_in_ms >= self._end_silence_ms:
            self._end(self._frame - self._look_behind(), out)
        elif is_last or self._is_too_long():
            self._end(self._frame, out)
        elif not silent or self._within_extension():
            self._free_from = self._frame + 1

    def _is_too_long(self) -> bool:
        frames = self._frame - (self._segment_start or 0) + 1
        return frames > self._p.max_single_segment_time / self._p.frame_in_ms

    def _within_extension(self) -> bool:
        extension = self._p.frames(self._p.lookahead_time_end_point)
        return bool(self._p.do_extend) and self._silent_frames <= extension

    def _look_behind(self) -> int:
        """Frames between the decision that silence has lasted and the segment's last frame."""
        frames = self._p.frames(self._end_silence_ms)
        if self._p.do_extend:
            frames = max(0, frames - self._p.frames(self._p.lookahead_time_end_point) - 1)
        return frames

    def _end(self, last_frame: int, out: list[VadBoundary]) -> None:
        out.append(VadBoundary("end", (last_frame + 1) * self._p.frame_in_ms))
        self._free_from = max(self._free_from, last_frame) + 1
        self._segment_start = None
        self._closed = self._p.detect_mode == SINGLE_UTTERANCE
        self._reset_window()

    def _reset_window(self) -> None:
        size = self._p.frames(self._p.window_size_ms)
        self._window: deque[bool] = deque(maxlen=size)
        self._sum = 0
        self._speaking = False
        self._silent_frames = 0
