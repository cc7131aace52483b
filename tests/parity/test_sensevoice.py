"""SenseVoiceSmall: tokens, tags and times."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agent.engine.families.sensevoice import QUERIES
from agent.engine.greedy import Run, collapse
from agent.engine.side_files import read_config, read_frontend, read_tokens, section
from agent.engine.text import SPECIAL_TOKENS
from agent.types import Float32, Recognition, StreamOptions
from tests.parity.clips import Clip, some
from tests.parity.ledger import Ledger, amount, verdict
from tests.parity.ours import FP32, INT8, Exported, watched
from tests.parity.test_offline import differing, distance, furthest, smallest_margin
from tests.parity.test_streaming import softened

PART = "SenseVoiceSmall"
NAME = "sensevoice-small"
TOLERANCE = 1e-3
ASKED = [("auto", True), ("zh", False), ("en", True)]
"""Language and whether numbers and marks are to be written."""
_TAG = re.compile(r"<\|([^|]*)\|>")
_UNKNOWN = ("EMO_UNKNOWN", "Event_UNK")
_EACH_S = 40


@pytest.mark.parametrize(("language", "itn"), ASKED)
def test_equals_torch(
    language: str,
    itn: bool,
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    torch_clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    files, theirs = exported(NAME), original(NAME)
    model = files.load("sensevoice", threads)
    frontend = read_frontend(files, section(read_config(files), "frontend_conf"))
    tokens = read_tokens(files)
    clips = some(torch_clips, _EACH_S)
    options = StreamOptions(language=language, itn=itn)
    largest, changed, frames, margin = 0.0, 0, 0, float("inf")
    texts, times, count = 0, 0, 0
    with watched() as outputs:
        for clip in clips:
            (found,) = model.decode([clip.samples], options)
            logits = softened(outputs.take("ctc_logits")[-1][0])
            asked = {"language": language, "use_itn": itn}
            wanted, _ = _in_torch(theirs, clip, frontend=_features(theirs, frontend), **asked)
            largest = max(largest, distance(logits, wanted))
            wanted, text = _in_torch(theirs, clip, **asked)
            changed += differing(logits, wanted)
            frames += len(wanted)
            margin = min(margin, smallest_margin(wanted))
            texts += not _same_text(found, text)
            spans, kept = _aligned(wanted, tokens, clip)
            assert kept == list(found.tokens) or not found.tokens
            if found.tokens:
                times = max(times, furthest(found.timestamps, spans))
                count += len(spans)
    on = f"{language}, {'with' if itn else 'without'} ITN, {amount(clips)}"
    ledger.add(PART, "fp32: log-probabilities on the same features", "torch", on,
               f"{largest:.1e}", largest <= TOLERANCE)  # fmt: skip
    ledger.add(
        PART, "fp32: tokens from the audio, frame by frame", "torch", on,
        f"{changed} of {frames} frames, smallest margin {margin:.2g}", not changed,
    )  # fmt: skip
    ledger.add(PART, "fp32: text and tags of language, emotion, event", "torch", on,
               f"{texts} of {len(clips)} clips", not texts)  # fmt: skip
    ledger.add(PART, "fp32: times of tokens, against the forced alignment", "torch", on,
               f"{times} ms ({count} tokens)", times <= 1)  # fmt: skip


@pytest.mark.parametrize("form", [FP32, INT8], ids=["fp32", "int8"])
def test_equals_funasr_onnx(
    form: str,
    exported: Callable[..., Exported],
    clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    from tests.parity import peer

    files = exported(NAME, form)
    model = files.load("sensevoice", threads)
    theirs = peer.SenseVoice(files.folder, quantize=form == INT8, threads=threads)
    largest, texts = 0.0, 0
    with watched() as outputs:
        for i, clip in enumerate(clips):
            language, itn = ASKED[i % len(ASKED)]
            (found,) = model.decode([clip.samples], StreamOptions(language=language, itn=itn))
            logits, text = theirs.read(clip.wave, language, itn=itn)
            largest = max(largest, distance(outputs.take("ctc_logits")[-1][0], logits))
            texts += not _same_text(found, text)
    label = "int8" if form == INT8 else "fp32"
    ledger.add(PART, f"{label}: log-probabilities", "funasr_onnx", amount(clips),
               f"{largest:.1e}", largest <= TOLERANCE)  # fmt: skip
    ledger.add(PART, f"{label}: text and tags", "funasr_onnx", amount(clips),
               f"{texts} of {len(clips)} clips", verdict(not texts, 0))  # fmt: skip


def _in_torch(theirs: Any, clip: Clip, **more: Any) -> tuple[Float32, str]:
    """Log-probabilities of the frames and the text with its tags."""
    from tests.parity.original import told

    seen: list[Float32] = []

    def softened_(_: tuple[Any, ...], output: Any) -> None:
        seen.append(output[0].detach().numpy())

    with told(theirs.model.ctc, {"log_softmax": softened_}):
        (result,) = theirs.generate(clip.wave, **more)
    return seen[0], str(result["text"])


def _features(theirs: Any, frontend: Any) -> Any:
    from tests.parity.original import AgentFeatures

    return AgentFeatures(frontend, theirs.frontend)


def _same_text(found: Recognition, text: str) -> bool:
    """Whether the agent's text and tags are those of FunASR's text; text that FunASR reads where it
    heard no speech is none."""
    tags = [tag if tag not in _UNKNOWN else "" for tag in _TAG.findall(text)]
    spoken = re.sub(" +", " ", _TAG.sub("", text)).strip()
    for token in SPECIAL_TOKENS:
        spoken = spoken.replace(token, "")
    if "nospeech" in tags[:1]:
        return found.text == ""
    mine = [tag for tag in (found.language, found.emotion, found.event) if tag]
    theirs = [tag for tag in tags[: len(mine)] if tag]
    return found.text == re.sub(" +", " ", spoken).strip() and mine == theirs


def _aligned(
    logits: Float32, tokens: Sequence[str], clip: Clip
) -> tuple[list[tuple[int, int]], list[str]]:
    """Times in ms from FunASR's forced alignment of what it read, and the tokens that they are of;
    without tags."""
    import torch
    from funasr.models.sense_voice.utils.ctc_alignment import ctc_forced_align

    runs: list[Run] = [r for r in collapse(logits.argmax(axis=-1)) if r.first >= QUERIES]
    if not runs:
        return [], []
    speech = torch.from_numpy(logits[QUERIES:].copy())
    blanks = speech.argmax(dim=-1) == 0
    speech[blanks, 0] = 0  # As SenseVoice's inference does.
    ids = torch.tensor([[run.id for run in runs]])
    aligned = ctc_forced_align(
        speech[None], ids, torch.tensor([len(speech)]), torch.tensor([len(runs)])
    )[0].numpy()
    ends_ms = int(clip.seconds * 1000)
    spans, kept = [], []
    for run in collapse(aligned):
        token = tokens[run.id]
        if token in SPECIAL_TOKENS or _TAG.fullmatch(token):
            continue
        a, z = run.first * 60 - 30, run.behind * 60 - 30
        spans.append((min(max(0, a), ends_ms), min(max(0, z), ends_ms)))
        kept.append(token)
    return spans, kept
