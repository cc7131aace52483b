"""The published architectures as config.yaml of FunASR 1.x, as FunASR's own templates size them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """One published model without its weights."""

    name: str
    config: Callable[[], Config]
    """config.yaml; called for each use, so that the caller may change what it gets."""
    source: str
    """Folder under `--configs` with its tokens.json, am.mvn and perhaps config.yaml."""
    hotwords: bool = False
    """Whether it reads hotwords, which needs a seg_dict."""


_FRONTEND: Config = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "dither": 0.0,
    "lfr_m": 7,
    "lfr_n": 6,
}
_ENCODER: Config = {
    "output_size": 512,
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 50,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "attention_dropout_rate": 0.1,
    "input_layer": "pe",
    "pos_enc_class": "SinusoidalPositionEncoder",
    "normalize_before": True,
    "kernel_size": 11,
    "sanm_shfit": 0,
    "selfattention_layer_type": "sanm",
}
_DECODER: Config = {
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 16,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "self_attention_dropout_rate": 0.1,
    "src_attention_dropout_rate": 0.1,
    "att_layer_num": 16,
    "kernel_size": 11,
    "sanm_shfit": 0,
}
_PREDICTOR: Config = {
    "idim": 512,
    "threshold": 1.0,
    "l_order": 1,
    "r_order": 1,
    "tail_threshold": 0.45,
}
_PREDICTOR_WITH_TIMES: Config = _PREDICTOR | {
    "smooth_factor2": 0.25,
    "noise_threshold2": 0.01,
    "upsample_times": 3,
    "use_cif1_cnn": False,
    "upsample_type": "cnn_blstm",
}
_MODEL: Config = {
    "ctc_weight": 0.0,
    "lsm_weight": 0.1,
    "length_normalized_loss": True,
    "predictor_weight": 1.0,
    "predictor_bias": 1,
    "sampling_ratio": 0.75,
}
_CHARACTERS: Config = {
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
}
_MARKS = ["<unk>", "_", "，", "。", "？", "、"]


def _paraformer(**changes: Any) -> Config:
    config: Config = {
        "model": "Paraformer",
        "model_conf": _MODEL,
        "encoder": "SANMEncoder",
        "encoder_conf": _ENCODER,
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": _DECODER,
        "predictor": "CifPredictorV2",
        "predictor_conf": _PREDICTOR,
        "frontend": "WavFrontend",
        "frontend_conf": _FRONTEND,
        **_CHARACTERS,
    }
    return copy.deepcopy(config | changes)


def _with_timestamps() -> Config:
    return _paraformer(
        model="BiCifParaformer", predictor="CifPredictorV3", predictor_conf=_PREDICTOR_WITH_TIMES
    )


def _contextual() -> Config:
    return _paraformer(
        model="ContextualParaformer",
        model_conf=_MODEL | {"inner_dim": 512},
        decoder="ContextualParaformerDecoder",
    )


def _seaco() -> Config:
    seaco_decoder = {key: value for key, value in _DECODER.items() if key != "att_layer_num"} | {
        "linear_units": 1024,
        "num_blocks": 4,
        "kernel_size": 21,
        "use_output_layer": False,
        "wo_input_layer": True,
    }
    return _paraformer(
        model="SeacoParaformer",
        model_conf=_MODEL
        | {
            "inner_dim": 512,
            "bias_encoder_type": "lstm",
            "bias_encoder_bid": False,
            "seaco_lsm_weight": 0.1,
            "seaco_length_normal": True,
            "train_decoder": False,
            "NO_BIAS": 8377,
        },
        seaco_decoder="ParaformerSANMDecoder",
        seaco_decoder_conf=seaco_decoder,
        predictor="CifPredictorV3",
        predictor_conf=_PREDICTOR_WITH_TIMES,
    )


def _streaming() -> Config:
    chunks = {
        "input_layer": "pe_online",
        "chunk_size": [12, 15],
        "stride": [8, 10],
        "pad_left": [0, 0],
        "encoder_att_look_back_factor": [4, 4],
        "decoder_att_look_back_factor": [1, 1],
    }
    return _paraformer(
        model="ParaformerStreaming",
        encoder="SANMEncoderChunkOpt",
        encoder_conf=_ENCODER | chunks,
        decoder_conf=_DECODER | {"sanm_shfit": 5},
        frontend="WavFrontendOnline",
    )


def _sensevoice() -> Config:
    config: Config = {
        "model": "SenseVoiceSmall",
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2, "ignore_id": -1},
        "encoder": "SenseVoiceEncoderSmall",
        "encoder_conf": _ENCODER | {"tp_blocks": 20},
        "tokenizer": "SentencepiecesTokenizer",
        "tokenizer_conf": {"bpemodel": None, "unk_symbol": "<unk>", "split_with_space": True},
        "frontend": "WavFrontend",
        "frontend_conf": _FRONTEND,
    }
    return copy.deepcopy(config)


def _punctuation() -> Config:
    encoder = _ENCODER | {
        "input_size": 256,
        "output_size": 256,
        "attention_heads": 8,
        "linear_units": 1024,
        "num_blocks": 4,
        "attention_dropout_rate": 0.0,
        "padding_idx": 0,
    }
    config: Config = {
        "model": "CTTransformer",
        "model_conf": {
            "ignore_id": 0,
            "embed_unit": 256,
            "att_unit": 256,
            "dropout_rate": 0.1,
            "punc_list": _MARKS,
            "punc_weight": [1.0] * len(_MARKS),
            "sentence_end_id": 3,
        },
        "encoder": "SANMEncoder",
        "encoder_conf": encoder,
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>"},
    }
    return copy.deepcopy(config)


def _realtime_punctuation() -> Config:
    config = _punctuation() | {"model": "CTTransformerStreaming", "encoder": "SANMVadEncoder"}
    config["encoder_conf"] |= {"num_blocks": 3, "sanm_shfit": 5}
    return config


def _vad() -> Config:
    config: Config = {
        "model": "FsmnVADStreaming",
        "model_conf": {
            "sample_rate": 16000,
            "detect_mode": 1,
            "snr_mode": 0,
            "max_end_silence_time": 800,
            "max_start_silence_time": 3000,
            "do_start_point_detection": True,
            "do_end_point_detection": True,
            "window_size_ms": 200,
            "sil_to_speech_time_thres": 150,
            "speech_to_sil_time_thres": 150,
            "speech_2_noise_ratio": 1.0,
            "do_extend": 1,
            "lookback_time_start_point": 200,
            "lookahead_time_end_point": 100,
            "max_single_segment_time": 60000,
            "snr_thres": -100.0,
            "noise_frame_num_used_for_snr": 100,
            "decibel_thres": -100.0,
            "speech_noise_thres": 0.6,
            "fe_prior_thres": 0.0001,
            "silence_pdf_num": 1,
            "sil_pdf_ids": [0],
            "speech_noise_thresh_low": -0.1,
            "speech_noise_thresh_high": 0.3,
            "output_frame_probs": False,
            "frame_in_ms": 10,
            "frame_length_ms": 25,
        },
        "encoder": "FSMN",
        "encoder_conf": {
            "input_dim": 400,
            "input_affine_dim": 140,
            "fsmn_layers": 4,
            "linear_dim": 250,
            "proj_dim": 128,
            "lorder": 20,
            "rorder": 0,
            "lstride": 1,
            "rstride": 0,
            "output_affine_dim": 140,
            "output_dim": 248,
        },
        "frontend": "WavFrontendOnline",
        "frontend_conf": _FRONTEND | {"lfr_m": 5, "lfr_n": 1},
    }
    return copy.deepcopy(config)


_OFFLINE = "paraformer-large-offline"
ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture("paraformer-zh", _paraformer, _OFFLINE),
        Architecture("paraformer-zh-timestamps", _with_timestamps, _OFFLINE),
        Architecture("paraformer-zh-contextual", _contextual, _OFFLINE, hotwords=True),
        Architecture("paraformer-zh-seaco", _seaco, _OFFLINE, hotwords=True),
        Architecture("paraformer-zh-streaming", _streaming, "paraformer-large-online"),
        Architecture("sensevoice-small", _sensevoice, "SenseVoiceSmall"),
        Architecture("ct-punc", _punctuation, "ct-punc"),
        Architecture("ct-punc-realtime", _realtime_punctuation, "ct-punc"),
        Architecture("fsmn-vad", _vad, "fsmn-vad"),
    )
}
