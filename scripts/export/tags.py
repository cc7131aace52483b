"""The four leading tags of a seeded SenseVoice: language, emotion, event, ITN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agent.types import SAMPLE_RATE

from .probe import Clips, funasr_result, recorded

LANGUAGES = ("auto", "zh", "en", "yue", "ja", "ko", "nospeech")
_TAGS = {
    "auto": ("<|zh|>", "<|NEUTRAL|>", "<|Speech|>"),
    "zh": ("<|zh|>", "<|NEUTRAL|>", "<|Speech|>"),
    "en": ("<|en|>", "<|HAPPY|>", "<|Laughter|>"),
    "yue": ("<|yue|>", "<|SAD|>", "<|BGM|>"),
    "ja": ("<|ja|>", "<|ANGRY|>", "<|Applause|>"),
    "ko": ("<|ko|>", "<|SURPRISED|>", "<|Cry|>"),
    "nospeech": ("<|nospeech|>", "<|EMO_UNKNOWN|>", "<|Event_UNK|>"),
}
"""What a seeded SenseVoice says of any speech, by the language asked for."""
_TAG_CLIPS = 6
_TAG_CLIP_S = 3


def set_tags(model: Any, output: nn.Linear, tokens: list[str], clips: Clips) -> None:
    """Rows for the four leading tags by regression: on top in their place, and only there."""
    rows: list[Tensor] = []
    labels: list[str] = []
    for language in LANGUAGES:
        for use_itn in (True, False):
            for clip in clips[:_TAG_CLIPS]:
                with recorded(output) as seen, torch.no_grad():
                    part = clip[: _TAG_CLIP_S * SAMPLE_RATE]
                    funasr_result(model, part, language=language, use_itn=use_itn)
                four = (*_TAGS[language], "<|withitn|>" if use_itn else "<|woitn|>")
                rows.append(seen[0])
                labels += [*four, *[""] * (len(seen[0]) - len(four))]
    inputs = torch.cat(rows)
    wanted = ["", *sorted({*labels} & {*tokens} - {""})]
    target = torch.tensor([wanted.index(label) if label in wanted else 0 for label in labels])
    with torch.no_grad():
        others = output(inputs).amax(1, keepdim=True)
    share = torch.where(target > 0, len(target) / (target > 0).sum(), 1.0)
    layer = nn.Linear(inputs.shape[1], len(wanted) - 1)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    solver = torch.optim.LBFGS(layer.parameters(), max_iter=150, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        logits = torch.cat([others, layer(inputs)], dim=1)
        each = nn.functional.cross_entropy(logits, target, reduction="none")
        value = (each * share).mean() + 1e-5 * layer.weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    with torch.no_grad():
        for row, tag in enumerate(wanted[1:]):
            output.weight[tokens.index(tag)] = layer.weight[row]
            output.bias[tokens.index(tag)] = layer.bias[row]
