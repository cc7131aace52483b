"""Any sampling rate and channel count to the agent's 16 kHz mono int16, as a stream."""

from __future__ import annotations

import operator

import numpy as np
import soxr
from numpy.typing import NDArray

from agent.errors import ProtocolError
from agent.types import MAX_RATE, MIN_RATE, SAMPLE_RATE, Float32, Int16

_FULL_SCALE = 32768.0
_QUALITY = "HQ"
_INVALID_DATA = 1007


def check_rate(rate: float) -> int:
    """`rate` in Hz as an int. Raises ProtocolError when it is absurd or not a whole number."""
    try:
        whole = operator.index(rate) if not isinstance(rate, float) else int(rate)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if isinstance(rate, bool) or whole != rate or not MIN_RATE <= whole <= MAX_RATE:
        raise ProtocolError(
            f"sample rate {rate!r} can't be used; send {MIN_RATE} to {MAX_RATE} Hz, "
            f"best {SAMPLE_RATE}",
            close_code=_INVALID_DATA,
        )
    return whole


class Resampler:
    """One mono stream at `rate` Hz to 16 kHz; the result does not depend on the chunking.

    The work is done in float32 and rounded once: soxr's own int16 output adds dither, which
    differs from call to call.
    """

    def __init__(self, rate: float) -> None:
        """Raises ProtocolError for a rate outside MIN_RATE to MAX_RATE."""
        self.rate = check_rate(rate)
        self._stream = (
            None
            if self.rate == SAMPLE_RATE
            else soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32", quality=_QUALITY)
        )

    def accept(self, samples: Int16 | Float32) -> Int16:
        """Take the next samples [n] (int16, or float32 in -1 to 1); what is ready, [m]."""
        return self._run(samples, last=False)

    def finish(self) -> Int16:
        """End the stream: the samples still inside the filter, [m]."""
        return self._run(np.zeros(0, np.int16), last=True)

    def _run(self, samples: Int16 | Float32, *, last: bool) -> Int16:
        if self._stream is None and samples.dtype == np.int16:
            return samples.astype(np.int16, copy=False)
        scaled = _to_int16_scale(samples)
        if self._stream is not None:
            scaled = self._stream.resample_chunk(scaled, last=last)
        limits = np.iinfo(np.int16)
        return np.clip(np.rint(scaled), limits.min, limits.max).astype(np.int16)


def downmix(frames: NDArray[np.float32]) -> Float32:
    """Mean of the channels: [n, channels] to [n]."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    mixed: Float32 = frames.mean(axis=1, dtype=np.float32)
    return mixed


def _to_int16_scale(samples: Int16 | Float32) -> Float32:
    if samples.dtype == np.int16:
        return samples.astype(np.float32)
    # Float files may hold NaN or infinities; one of them would poison the filter's memory.
    finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    limited: Float32 = np.clip(finite, -1.0, 1.0) * np.float32(_FULL_SCALE)
    return limited
