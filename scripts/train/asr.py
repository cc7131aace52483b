"""The two recognisers: configurations and FunASR's own classes."""

from __future__ import annotations

from typing import Any

import torch

from .features import MEL
from .vocabulary import TOKENS

DIM, FEED_FORWARD, HEADS = 160, 640, 4
ENCODER_BLOCKS, DECODER_BLOCKS = 8, 3
KERNEL = 11
DROPOUT = 0.1  # Written into the configuration; short trainings run without.
REJECT_BELOW = {"offline": 0.2, "online": 0.26}
"""Mean probability of the tokens of a text (offline) or of a hop (online)."""
CLASSES = {
    "offline": ("Paraformer", "SANMEncoder"),
    "online": ("ParaformerStreaming", "SANMEncoderChunkOpt"),
}


def _encoder_conf(kind: str) -> dict[str, Any]:
    conf: dict[str, Any] = {
        "output_size": DIM,
        "attention_heads": HEADS,
        "linear_units": FEED_FORWARD,
        "num_blocks": ENCODER_BLOCKS,
        "dropout_rate": DROPOUT,
        "positional_dropout_rate": DROPOUT,
        "attention_dropout_rate": DROPOUT,
        "input_layer": "pe_online" if kind == "online" else "pe",
        "pos_enc_class": "SinusoidalPositionEncoder",
        "normalize_before": True,
        "kernel_size": KERNEL,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
    }
    if kind == "online":
        # Trained in the very windows that the ONNX export sees (windows.py): 5 + 10 + 5 frames,
        # nothing before them. The published model has 12 and 15 frames with a look back of 4.
        conf |= {
            "chunk_size": [20],
            "stride": [10],
            "pad_left": [5],
            "encoder_att_look_back_factor": [0],
            "decoder_att_look_back_factor": [0],
        }
    return conf


def configuration(kind: str) -> dict[str, Any]:
    """FunASR's configuration (its 1.x layout) of the `offline` or `online` model."""
    model, encoder = CLASSES[kind]
    return {
        "model": model,
        "model_conf": {
            "ctc_weight": 0.3,
            "lsm_weight": 0.1,
            "length_normalized_loss": True,
            "predictor_weight": 1.0,
            "predictor_bias": 1,
            "sampling_ratio": 0.75,
        },
        "ctc_conf": {
            "dropout_rate": 0.0,
            "ctc_type": "builtin",
            "reduce": True,
            "ignore_nan_grad": True,
        },
        "encoder": encoder,
        "encoder_conf": _encoder_conf(kind),
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {
            "attention_heads": HEADS,
            "linear_units": FEED_FORWARD,
            "num_blocks": DECODER_BLOCKS,
            "dropout_rate": DROPOUT,
            "positional_dropout_rate": DROPOUT,
            "self_attention_dropout_rate": DROPOUT,
            "src_attention_dropout_rate": DROPOUT,
            "att_layer_num": DECODER_BLOCKS,
            "kernel_size": KERNEL,
            "sanm_shfit": 5 if kind == "online" else 0,
        },
        "predictor": "CifPredictorV2",
        "predictor_conf": {
            "idim": DIM,
            "threshold": 1.0,
            "l_order": 1,
            "r_order": 1,
            "tail_threshold": 0.45,
        },
        "input_size": MEL * 7,
        # Read by the agent only: a text below that mean probability of its tokens is none.
        "rejection_conf": {"min_probability": REJECT_BELOW[kind]},
    }


def model_arguments(kind: str) -> dict[str, Any]:
    """The configuration flattened to the arguments of FunASR's constructor and exporter."""
    own = ("model", "model_conf", "rejection_conf")
    arguments = {k: v for k, v in configuration(kind).items() if k not in own}
    return arguments | configuration(kind)["model_conf"] | {"vocab_size": len(TOKENS)}


def build_model(kind: str) -> torch.nn.Module:
    """Create FunASR's model with random weights."""
    import funasr.auto.auto_model  # noqa: F401  (registers every class)
    from funasr.register import tables

    return tables.model_classes[CLASSES[kind][0]](**model_arguments(kind))
