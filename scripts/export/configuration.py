"""config.yaml of an architecture: published sections before our own, and the miniature form."""

from __future__ import annotations

from pathlib import Path

import yaml

from .architectures import Architecture, Config

SMALL_DIM = 64
SMALL_TOKENS = 300
_SECTIONS = ("encoder_conf", "decoder_conf", "predictor_conf", "frontend_conf")
_NOT_PUBLISHED_HERE = ("CTTransformerStreaming", "FsmnVADStreaming")
"""Models whose `source` folder, if any, describes another one."""


def configuration(architecture: Architecture, configs: Path, *, small: bool) -> Config:
    """config.yaml of the architecture, of full size or in miniature."""
    config = architecture.config()
    _take_published(config, configs / architecture.source / "config.yaml")
    if small:
        _shrink(config)
    return config


def _take_published(config: Config, path: Path) -> None:
    """Sections that a published config.yaml of either generation states come before ours.

    `dither` stays 0 and `input_layer` stays ours: the older files leave both to their runtime.
    """
    if not path.is_file() or config["model"] in _NOT_PUBLISHED_HERE:
        return
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    published = yaml.load(path.read_text("utf-8"), Loader=loader)
    for name in _SECTIONS:
        if isinstance(published.get(name), dict) and name in config:
            known = {k: v for k, v in published[name].items() if k != "cmvn_file"}
            config[name] |= known
    if isinstance(published.get("punc_list"), list):
        config["model_conf"]["punc_list"] = published["punc_list"]


def _shrink(config: Config) -> None:
    """Two blocks of 64 in the encoder and in the decoder, same classes, same graph inputs."""
    if config["model"] == "FsmnVADStreaming":
        config["encoder_conf"] |= {"linear_dim": 64, "proj_dim": 32}
        return
    block = {"attention_heads": 4, "linear_units": 128, "num_blocks": 2}
    config["encoder_conf"] |= block | {"output_size": SMALL_DIM}
    if "tp_blocks" in config["encoder_conf"]:
        config["encoder_conf"]["tp_blocks"] = 2
    if "input_size" in config["encoder_conf"]:
        config["encoder_conf"]["input_size"] = SMALL_DIM
        config["model_conf"] |= {"embed_unit": SMALL_DIM, "att_unit": SMALL_DIM}
    if "decoder_conf" in config:
        config["decoder_conf"] |= block | {"att_layer_num": 2}
        config["predictor_conf"]["idim"] = SMALL_DIM
    if "inner_dim" in config["model_conf"]:
        config["model_conf"]["inner_dim"] = SMALL_DIM
    if "seaco_decoder_conf" in config:
        # Its six attention layers stay: the hotword filter of the export reads the sixth.
        config["seaco_decoder_conf"] |= {"linear_units": 64, "num_blocks": 2}
        config["model_conf"]["NO_BIAS"] = SMALL_TOKENS - 5
