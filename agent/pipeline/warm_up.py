"""First runs on a GPU, before the agent is ready.

CUDA loads a kernel when it first runs, cuDNN plans a convolution for every new length of audio, and
the arena grows to what the longest segment takes: a first final would wait for all of that. The
hops of a stream are all of one length, and the canary's stream has run those.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from agent.errors import InferenceError
from agent.pipeline.lanes import Lane
from agent.store.workload import tiled
from agent.types import Int16, ModelSet, StreamOptions

_log = logging.getLogger(__name__)
_SHORTEST_S = 0.5


async def warm_up(
    models: ModelSet,
    clip: Int16,
    lane: Lane,
    *,
    longest_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Decode `clip` [n], repeated, at lengths from half a second to the longest segment, each a job
    of its own. Returns the longest that went well, seconds; what does not is logged, since shorter
    segments can be served all the same."""
    started, done = clock(), 0.0
    if models.offline is None:
        return done
    for seconds in _lengths(longest_s):
        audio = tiled(clip, seconds)
        try:
            decode = partial(models.offline.decode, [audio], StreamOptions())
            await lane.run(decode, urgent=False)
        except InferenceError as error:
            _log.warning(
                "segments of %.0f s fail on the GPU, those of %.1f s do not: %s; lower "
                "recognition.max_segment_ms, or raise inference.gpu_memory_mb",
                seconds,
                done,
                error.message,
            )
            return done
        done = seconds
    _log.info("warmed up with segments of up to %.0f s in %.1f s", done, clock() - started)
    return done


def _lengths(longest_s: float) -> Iterator[float]:
    """Doubling, up to the longest."""
    seconds = _SHORTEST_S
    while seconds < longest_s:
        yield seconds
        seconds *= 2
    yield longest_s
