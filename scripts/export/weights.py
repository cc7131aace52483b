"""Random weights that behave like a recogniser's: several varied tokens a second on real speech.

A randomly initialised network keeps the speech apart from frame to frame, but its output layer
always prefers the same few tokens, and its predictor fires at whatever rate its bias happens to
give. So the last layers are set from what reaches them: the model is run on speech through
FunASR's own inference, the inputs of a layer are recorded, and its weights and bias are chosen so
that its outputs have the wanted mean, spread and share. What lies below is random, only scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agent.types import SAMPLE_RATE

from .probe import Clips, funasr_result, inputs_of, recorded
from .tags import set_tags

TOKENS_A_SECOND = 4.5
HOTWORDS = "你好 阿里巴巴 语音识别"
_FRAME_S = 0.06
_ALPHA_SPREAD = 0.6
"""Standard deviation of what goes into the sigmoid of CIF's weights."""
_LOGIT_SPREAD = 5.0
_MARGIN = 15.0
_RIDGE = 0.3
_DIRECTIONS = 16
_SHARE_OF_A_LAYER = 0.2
_UPSAMPLED_MEAN = 0.4
_NEVER = -40.0
"""Bias of a token that must not come out."""
_BLANK_SHARE = 0.7
_NO_BIAS_SHARE = 0.75
_MARK_SHARES = {"_": 0.80, "，": 0.09, "。": 0.05, "？": 0.03, "、": 0.03}
_SPEECH_BELOW_TOP_DB = -25
_VAD_ROUNDS = 30


def settle(model: Any, clips: Clips, texts: Sequence[str]) -> None:
    """Set the last layers of funasr's AutoModel `model` in place.

    `clips` are speech at 16 kHz, `texts` what a punctuation model is run on. Raises ExportError
    when they are too little to set anything from.
    """
    name = type(model.model).__name__
    if name == "SenseVoiceSmall":
        _settle_sensevoice(model, clips)
    elif name.startswith("CTTransformer"):
        _settle_punctuation(model, texts)
    elif name == "FsmnVADStreaming":
        _settle_vad(model, clips)
    else:
        _settle_paraformer(model, clips)


def _settle_paraformer(model: Any, clips: Clips) -> None:
    network = model.model
    hotwords = {"hotword": HOTWORDS} if hasattr(network, "bias_encoder") else {}

    def runs() -> None:
        for clip in clips:
            funasr_result(model, clip, **hotwords)

    _calm(network)
    _set_rate(network.predictor.cif_output, runs, TOKENS_A_SECOND * _FRAME_S)
    if hasattr(network.predictor, "cif_output2"):
        _set_rate(network.predictor.cif_output2, runs, _UPSAMPLED_MEAN)
    output = network.decoder.output_layer
    inputs = inputs_of(output, runs)
    _widen_margins(output, inputs, _spread(output, inputs, _DIRECTIONS).argmax(1))
    if hasattr(network, "hotword_output_layer"):
        output = network.hotword_output_layer
        inputs = inputs_of(output, runs)
        logits = _spread(output, inputs, _DIRECTIONS)
        no_bias = network.NO_BIAS
        output.weight.data[no_bias] = 0
        logits[:, no_bias] = -torch.inf
        output.bias.data[no_bias] = logits.amax(1).quantile(_NO_BIAS_SHARE)
        _widen_margins(output, inputs, output(inputs).argmax(1))


def _calm(network: nn.Module) -> None:
    """Make each layer change little of what goes through it.

    A trained network dampens the rounding of int8; a random one amplifies it from layer to layer
    until, after a few seconds of speech, CIF fires elsewhere and other tokens come out.
    """
    for name, parameter in network.named_parameters():
        residual = any(part in name for part in (".w_2.", ".linear_out."))
        if residual and not any(part in name for part in (".encoders0.", ".decoders3.")):
            parameter.data.mul_(_SHARE_OF_A_LAYER)


def _set_rate(layer: nn.Linear, runs: Callable[[], None], mean: float) -> None:
    """Make the sigmoid of the layer's only output have this mean on what goes in."""
    inputs = inputs_of(layer, runs)
    with torch.no_grad():
        values = inputs @ layer.weight[0]
        scale = _ALPHA_SPREAD / values.std()
        layer.weight *= scale
        values = values * scale
        low, high = -50.0, 50.0
        for _ in range(60):
            middle = (low + high) / 2
            too_much = float((values - values.mean() + middle).sigmoid().mean()) > mean
            low, high = (low, middle) if too_much else (middle, high)
        layer.bias.fill_(low - float(values.mean()))


def _spread(layer: nn.Linear, inputs: Tensor, directions: int | None = None) -> Tensor:
    """Centre and scale the layer's outputs on `inputs`; returns them, [n, outputs].

    With `directions` the layer sees only those in which its inputs differ most: rounding errors
    are alike in all, so that they count least there.
    """
    with torch.no_grad():
        if directions is not None:
            *_, axes = torch.linalg.svd(inputs - inputs.mean(0), full_matrices=False)
            layer.weight.copy_(layer.weight @ axes[:directions].T @ axes[:directions])
        values = inputs @ layer.weight.T
        centre, scale = values.mean(0), _LOGIT_SPREAD / (values - values.mean(0)).std()
        layer.weight *= scale
        layer.bias.copy_(-centre * scale)
        return (values - centre) * scale


def _widen_margins(layer: nn.Linear, inputs: Tensor, labels: Tensor) -> None:
    """Raise the output `labels` [n] of each input above the others, by ridge regression.

    The best two of thousands of random outputs are so close together that the rounding of int8
    would change every third token, which no trained model does.
    """
    chosen, places = labels.unique(return_inverse=True)
    wanted = nn.functional.one_hot(places).double()
    mean = inputs.mean(0)
    design = (inputs - mean).double()
    left = design.T @ design
    left += _RIDGE * left.diagonal().mean() * torch.eye(len(left)).double()
    raised = _MARGIN * torch.linalg.solve(left, design.T @ (wanted - wanted.mean(0))).float()
    with torch.no_grad():
        layer.weight[chosen] += raised.T
        layer.bias[chosen] -= mean @ raised


def _settle_sensevoice(model: Any, clips: Clips) -> None:
    output = model.model.ctc.ctc_lo
    tokens = [model.kwargs["tokenizer"].sp.IdToPiece(i) for i in range(output.out_features)]
    tags = [i for i, token in enumerate(tokens) if token.startswith("<|")]
    never = [i for i, token in enumerate(tokens) if token in ("<s>", "</s>")]

    def runs() -> None:
        for clip in clips:
            funasr_result(model, clip, language="zh")

    _calm(model.model)
    logits = _spread(output, inputs_of(output, runs), _DIRECTIONS)
    output.weight.data[[0, *tags]] = 0
    output.bias.data[[*tags, *never]] = _NEVER
    logits[:, [0, *tags, *never]] = -torch.inf
    output.bias.data[0] = logits.amax(1).quantile(_BLANK_SHARE)
    set_tags(model, output, tokens, clips)


def _settle_punctuation(model: Any, texts: Sequence[str]) -> None:
    network, output = model.model, model.model.decoder

    def runs() -> None:
        for text in texts:
            model.generate(input=text, cache={})

    logits = _spread(output, inputs_of(output, runs))
    plain = [{",": "，", "?": "？"}.get(mark, mark) for mark in network.punc_list]
    shares = torch.tensor([_MARK_SHARES.get(mark, 0.0) for mark in plain])
    with torch.no_grad():
        scale = _LOGIT_SPREAD / logits.std(0)
        logits *= scale
        output.weight *= scale[:, None]
        output.bias *= scale
        shift = torch.where(shares > 0, 0.0, _NEVER)
        for step in range(2000):
            found = torch.bincount((logits + shift).argmax(1), minlength=len(shares)) / len(logits)
            shift += torch.where(shares > 0, (shares - found) * 5 / (1 + step / 200), 0.0)
        output.bias += shift


def _settle_vad(model: Any, clips: Clips) -> None:
    """A short training on energies, so that segments open and close with speech."""
    encoder = model.model.encoder
    hiss = np.random.default_rng(0).normal(0, 10, SAMPLE_RATE).astype(np.int16)
    examples = []
    for clip in clips:
        padded = np.concatenate([np.zeros_like(hiss), clip, hiss])
        with recorded(encoder.in_linear1) as seen, torch.no_grad():
            funasr_result(model, padded)
        frames = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float64), 400)[::160]
        energy = 10 * np.log10((frames**2).mean(1) + 1)
        inputs = torch.cat(seen)[: len(energy)]
        speech = energy[: len(inputs)] > np.percentile(energy, 95) + _SPEECH_BELOW_TOP_DB
        examples.append((inputs[None], torch.from_numpy(speech)))
    encoder.train()
    solver = torch.optim.Adam(encoder.parameters(), lr=2e-3)
    for _ in range(_VAD_ROUNDS):
        for inputs, speech in examples:
            silence = encoder(inputs, cache={})[0, :, 0].clamp(1e-6, 1 - 1e-6)
            loss = -torch.where(speech, (1 - silence).log(), silence.log()).mean()
            solver.zero_grad()
            loss.backward()
            solver.step()
    encoder.eval()
