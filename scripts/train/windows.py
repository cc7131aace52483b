"""The streaming model's loss, computed in the very windows that its runtime decodes.

FunASR's streaming runtime (and its ONNX export) sees windows of 5 + 10 + 5 frames with no memory
in the encoder: the window's middle counts, and a token attends to the window in which it fires.
FunASR's training code lays such windows side by side in one long sequence, with masks between
them. Here each window is a row of the batch, which costs a third of the time, and the stream
starts with ten empty frames, as the runtime's does. All layers and losses are FunASR's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

LEFT, HOP, RIGHT = 5, 10, 5
WINDOW = LEFT + HOP + RIGHT
LEAD = LEFT + RIGHT


def split(
    frames: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut (B, T, D) into windows.

    Returns the windows that a row of the batch needs (N, 20, D), which of their frames are not
    beyond the utterance (N, 20), and which windows each row has (B, K).
    """
    counts = (lengths + LEFT + HOP - 1) // HOP
    most = int(counts.max())
    after = max(0, HOP * (most - 1) + WINDOW - LEAD - frames.shape[1])
    padded = F.pad(frames, (0, 0, LEAD, after))
    windows = padded.unfold(1, WINDOW, HOP)[:, :most].transpose(2, 3)
    position = HOP * torch.arange(most)[:, None] + torch.arange(WINDOW) - LEAD
    inside = position[None] < lengths[:, None, None]
    present = torch.arange(most)[None] < counts[:, None]
    return windows[present], inside[present], present


def join(values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Put what was computed for windows (N, F, ...) in a row's order (B, K * F, ...)."""
    shape = (*present.shape, *values.shape[1:])
    rows = torch.zeros(shape, dtype=values.dtype).index_put((present,), values)
    return rows.flatten(1, 2)


def _encode(model: Any, windows: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    mask = inside[:, None, :]
    hidden = model.encoder.encoders0(windows, mask, None, None, None)[0]
    hidden = model.encoder.encoders(hidden, mask, None, None, None)[0]
    return model.encoder.after_norm(hidden) * inside[:, :, None]


def _weights(predictor: Any, hidden: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """CIF weights of every frame of a window (N, 20)."""
    context = torch.relu(predictor.cif_conv1d(predictor.pad(hidden.transpose(1, 2))))
    alphas = torch.sigmoid(predictor.cif_output(context.transpose(1, 2)))
    alphas = torch.relu(alphas * predictor.smooth_factor - predictor.noise_threshold)
    return alphas.squeeze(-1) * inside


def _own_window(alphas: torch.Tensor, present: torch.Tensor, tokens: int) -> torch.Tensor:
    """The window in which each token fires (B, tokens)."""
    reached = torch.cumsum(alphas, dim=1)[:, None, :]
    wanted = torch.arange(1, tokens + 1)[None, :, None] - 1e-3
    frame = (reached < wanted).sum(-1)
    return torch.minimum(frame // HOP, present.sum(1, keepdim=True) - 1)


def windowed_loss(
    model: Any,
    speech: torch.Tensor,
    lengths: torch.Tensor,
    text: torch.Tensor,
    text_lengths: torch.Tensor,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """FunASR's three losses (CTC, attention, length) over windows; returns loss and statistics."""
    from funasr.metrics.compute_acc import th_accuracy
    from funasr.models.paraformer.cif_predictor import cif_v1
    from funasr.models.transformer.utils.add_sos_eos import add_sos_eos

    frames = model.encoder.embed(speech * math.sqrt(model.encoder.output_size()))
    windows, inside, present = split(frames, lengths)
    hidden = _encode(model, windows, inside)
    middle = slice(LEFT, LEFT + HOP)
    alphas = join(_weights(model.predictor, hidden, inside)[:, middle], present)
    centre = join(hidden[:, middle], present)
    loss_ctc = torch.zeros(())
    if model.ctc_weight:
        loss_ctc, _ = model._calc_ctc_loss(centre, lengths + LEFT, text, text_lengths)

    _, targets = add_sos_eos(text, model.sos, model.eos, model.ignore_id)
    target_lengths = text_lengths + model.predictor_bias
    token_num = alphas.sum(1)
    scaled = alphas * (target_lengths / token_num)[:, None]
    embeds, _ = cif_v1(centre, scaled, model.predictor.threshold)
    loss_pre = model.criterion_pre(target_lengths.type_as(token_num), token_num)

    own = _own_window(scaled.detach(), present, targets.shape[1])
    window_of = torch.arange(present.shape[1]).repeat_interleave(WINDOW)
    mask = own[:, :, None] == window_of
    mask = mask & join(inside, present)[:, None, :]
    memory, memory_lengths = join(hidden, present), present.sum(1) * WINDOW
    semantic, first = embeds, None
    if model.sampling_ratio:
        semantic, first = model.sampler(
            memory, memory_lengths, targets, target_lengths, embeds, mask.float()
        )
    decoded = model.decoder(memory, memory_lengths, semantic, target_lengths, mask.float())[0]
    first = decoded.detach() if first is None else first
    loss_att = model.criterion_att(decoded, targets)
    accuracy = th_accuracy(first.view(-1, model.vocab_size), targets, ignore_label=model.ignore_id)
    loss = (
        model.ctc_weight * loss_ctc
        + (1 - model.ctc_weight) * loss_att
        + model.predictor_weight * loss_pre
    )
    stats = {"loss_pre": loss_pre.detach(), "acc": accuracy, "loss_ctc": loss_ctc.detach()}
    return loss, stats
