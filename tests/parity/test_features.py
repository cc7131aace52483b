"""Features: the agent's frontend against FunASR's in torch and in funasr_onnx, without dither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from agent.engine.side_files import read_config, read_frontend, section
from agent.types import Float32
from tests.parity.clips import Clip, cuts, some
from tests.parity.ledger import Ledger, amount, verdict
from tests.parity.ours import Exported

PART = "Features"
TOLERANCE = 1e-3
RECOGNISER_HOP = 9600
VAD_HOP = 1600
MODELS = [("paraformer-zh", "recogniser"), ("fsmn-vad", "voice detector")]
HOPS = [
    ("paraformer-zh", "recogniser", RECOGNISER_HOP),
    ("fsmn-vad", "voice detector", VAD_HOP),
]
UNIT = 960
"""Samples of 60 ms: funasr_onnx's recogniser does not read a last piece that is shorter."""
_STREAMED_S = 60


class _Ours:
    """The agent's frontend of a model, and its settings for FunASR's."""

    def __init__(self, files: Exported) -> None:
        self.conf = {**section(read_config(files), "frontend_conf"), "dither": 0.0}
        self.frontend = read_frontend(files, self.conf)
        self.cmvn = str(files.folder / "am.mvn")


@pytest.mark.parametrize(("name", "use"), MODELS)
def test_whole_equals_torch(
    name: str, use: str, exported: Callable[..., Exported], clips: list[Clip], ledger: Ledger
) -> None:
    import torch
    from funasr.frontends.wav_frontend import WavFrontend

    ours = _Ours(exported(name))
    theirs = WavFrontend(cmvn_file=ours.cmvn, **ours.conf)
    largest = 0.0
    for clip in clips:
        wave = torch.from_numpy(clip.wave)[None]
        wanted = theirs(wave, torch.tensor([wave.shape[1]]))[0][0].numpy()
        largest = max(largest, _distance(ours.frontend.whole(clip.samples), wanted))
    ledger.add(
        PART, f"{use}, whole", "torch WavFrontend", amount(clips), f"{largest:.1e}",
        largest <= TOLERANCE,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "use"), MODELS)
def test_whole_equals_funasr_onnx(
    name: str, use: str, exported: Callable[..., Exported], clips: list[Clip], ledger: Ledger
) -> None:
    from tests.parity import peer

    files = exported(name)
    ours = _Ours(files)
    theirs = peer.frontend(files.folder, ours.conf)
    largest = max(
        _distance(ours.frontend.whole(clip.samples), peer.features(theirs, clip.wave))
        for clip in clips
    )
    ledger.add(
        PART, f"{use}, whole", "funasr_onnx WavFrontend", amount(clips), f"{largest:.1e}",
        largest <= TOLERANCE,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "use", "hop"), HOPS)
def test_streamed_equals_torch_hop_by_hop(
    name: str,
    use: str,
    hop: int,
    exported: Callable[..., Exported],
    clips: list[Clip],
    ledger: Ledger,
) -> None:
    import torch
    from funasr.frontends.wav_frontend import WavFrontendOnline

    ours = _Ours(exported(name))
    theirs = WavFrontendOnline(cmvn_file=ours.cmvn, **ours.conf)

    def feed(cache: dict[str, Any], wave: Float32, is_last: bool) -> Float32:
        data = torch.from_numpy(wave)[None]
        made, _ = theirs(data, torch.tensor([data.shape[1]]), cache=cache, is_final=is_last)
        return made[0].numpy() if made.ndim == 3 else np.zeros((0, 0), np.float32)

    used = some(clips, _STREAMED_S)
    largest = max(_streamed(ours, clip, hop, feed) for clip in used)
    ledger.add(
        PART, f"{use}, hops of {hop // 16} ms", "torch WavFrontendOnline", amount(used),
        f"{largest:.1e}", largest <= TOLERANCE,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "use", "hop"), HOPS)
def test_streamed_equals_funasr_onnx_hop_by_hop(
    name: str,
    use: str,
    hop: int,
    exported: Callable[..., Exported],
    clips: list[Clip],
    ledger: Ledger,
) -> None:
    from tests.parity import peer

    files = exported(name)
    ours = _Ours(files)

    def feed(cache: dict[str, Any], wave: Float32, is_last: bool) -> Float32:
        if not cache:
            cache["frontend"] = peer.frontend(files.folder, ours.conf, online=True)
        made, _ = cache["frontend"].extract_fbank(wave[None], np.array([len(wave)]), is_last)
        return np.asarray(made[0] if made.ndim == 3 else np.zeros((0, 0)), np.float32)

    used = some(clips, _STREAMED_S)
    shortest = UNIT if hop == RECOGNISER_HOP else 0
    short = sum(0 < len(clip.samples) % hop < shortest for clip in used)
    largest = max(_streamed(ours, clip, hop, feed, shortest) for clip in used)
    remark = (
        f"a last piece of under 60 ms ({short} clips) brings no frame in funasr_onnx, whose own "
        "recogniser does not read it either; the agent's brings one where there is one"
    )
    ledger.add(
        PART, f"{use}, hops of {hop // 16} ms", "funasr_onnx WavFrontendOnline", amount(used),
        f"{largest:.1e}", verdict(largest <= TOLERANCE, short), remark if short else "",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "use"), MODELS)
def test_cuts_of_the_audio_change_no_bit(
    name: str, use: str, exported: Callable[..., Exported], clips: list[Clip], ledger: Ledger
) -> None:
    ours = _Ours(exported(name))
    rng = np.random.default_rng(0)
    changed = 0
    for clip in clips:
        stream = ours.frontend.start_stream()
        pieces = [stream.accept(clip.samples[c]) for c in cuts(len(clip.samples), rng, 1, 20000)]
        joined = np.concatenate([*pieces, stream.finish()])
        changed += not np.array_equal(joined, ours.frontend.whole(clip.samples))
    ledger.add(
        PART, f"{use}, cut at random", "the agent's own, whole", amount(clips),
        f"{changed} of {len(clips)} clips", not changed,
    )  # fmt: skip


def _streamed(
    ours: _Ours,
    clip: Clip,
    hop: int,
    feed: Callable[[dict[str, Any], Float32, bool], Float32],
    shortest: int = 0,
) -> float:
    """The largest difference over hops of a clip, which must bring as many frames each; a last one
    below `shortest` samples is passed over."""
    stream = ours.frontend.start_stream()
    cache: dict[str, Any] = {}
    largest = 0.0
    for piece, is_last in _hops(len(clip.samples), hop):
        if len(clip.samples[piece]) < shortest:
            break
        found = stream.accept(clip.samples[piece])
        if is_last:
            found = np.concatenate([found, stream.finish()])
        largest = max(largest, _distance(found, feed(cache, clip.wave[piece], is_last)))
    return largest


def _hops(length: int, hop: int) -> Iterator[tuple[slice, bool]]:
    for at in range(0, length, hop):
        yield slice(at, at + hop), at + hop >= length


def _distance(found: Float32, wanted: Float32) -> float:
    if not len(found) and not len(wanted):
        return 0.0
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found.astype(np.float64) - wanted).max())
