"""What FunASR's config.yaml says a model is, in both generations of it.

FunASR 1.x names the class (`model: Paraformer`, `model_conf`); older ones name it in lower case
with the tokens inline (`model: paraformer`, `token_list`), or not at all (`WavFrontend` with
`vadPostArgs`, `punctuation: target_delay`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.engine.side_files import parse_yaml
from agent.errors import CompatibilityError, ManifestError
from agent.store.safe_open import Unfit, read_small

CONFIG = "config.yaml"
TOKENS = "tokens.json"
MAX_CONFIG_BYTES = 32 << 20
"""The punctuation model's config.yaml with 272727 tokens has 3 MB."""

_SAMPLE_RATE = 16000
_CHUNK_ENCODERS = ("sanmencoderchunkopt", "sanmchunkopt")


@dataclass(frozen=True)
class Kind:
    """One kind of FunASR model, by the agent's names."""

    family: str
    task: str
    graphs: tuple[str, ...] = ("model",)
    """Graph roles that it can't do without."""
    side_files: tuple[str, ...] = ("am.mvn", TOKENS)
    """Files beside config.yaml that its family reads."""


_OFFLINE = Kind("paraformer", "asr_offline")
_CONTEXTUAL = Kind("paraformer", "asr_offline", graphs=("model", "model_eb"))
_ONLINE = Kind("paraformer_online", "asr_online", graphs=("model", "decoder"))
_SENSEVOICE = Kind("sensevoice", "asr_offline")
_VAD = Kind("fsmn_vad", "vad", side_files=("am.mvn",))
_PUNCTUATION = Kind("ct_punctuation", "punctuation", side_files=(TOKENS,))
_REALTIME = Kind("ct_punctuation_realtime", "punctuation", side_files=(TOKENS,))
_CLASSES = {
    "paraformer": _OFFLINE,
    "bicifparaformer": _OFFLINE,
    "contextualparaformer": _CONTEXTUAL,
    "neatcontextualparaformer": _CONTEXTUAL,
    "seacoparaformer": _CONTEXTUAL,
    "paraformerstreaming": _ONLINE,
    "paraformeronline": _ONLINE,
    "sensevoicesmall": _SENSEVOICE,
    "fsmnvadstreaming": _VAD,
    "e2evad": _VAD,
    "cttransformer": _PUNCTUATION,
    "cttransformerstreaming": _REALTIME,
}
"""`model` in lower case without underscores, so that one entry fits both generations."""
_PUNCTUATION_KINDS = {"target_delay": _PUNCTUATION, "vad_realtime": _REALTIME}
"""`punctuation` of the older configs, which name no model."""


def read_export_config(folder: Path) -> dict[str, Any]:
    """config.yaml of an export, every scalar as text: a token `no` or `1` must stay what it is.

    Raises ManifestError when it is missing, too large, too deep or no mapping.
    """
    where = str(folder / CONFIG)
    try:
        data = read_small(folder, CONFIG, MAX_CONFIG_BYTES)
        tree = parse_yaml(data, as_text=True)
    except Unfit as unfit:
        raise ManifestError(f"{unfit}; give the folder of a FunASR export", file=where) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        what = getattr(error, "problem", None) or "not readable text"
        raise ManifestError(f"is not valid YAML: {what}{line}", file=where) from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"is not valid YAML: {error}", file=where) from None
    if not isinstance(tree, dict):
        raise ManifestError("is not a mapping; give the folder of a FunASR export", file=where)
    return tree


def kind_of(config: Mapping[str, Any], families: Collection[str], where: str) -> Kind:
    """What the config describes: by its model class, else by the sections it has.

    Raises CompatibilityError when none of `families` runs it, ManifestError when it does not say.
    """
    model = config.get("model")
    name = model if isinstance(model, str) else ""
    kind = _CLASSES.get(_plain(name)) if name else _by_sections(config)
    if kind is _OFFLINE and _works_by_chunks(config):
        kind = _ONLINE
    if kind is not None and kind.family in families:
        return kind
    if kind is None and not name:
        raise ManifestError(
            "does not say which model this is (no `model`, and not the sections of a known one); "
            "give the folder of a FunASR export",
            file=where,
        )
    family = f"family {kind.family}" if kind else "family"
    named = f" for the model {name[:60]!r}" if name else ""
    raise CompatibilityError(
        f"this agent has no {family}{named}; it has {', '.join(sorted(families))}",
        file=where,
    )


def sample_rate(config: Mapping[str, Any], where: str) -> int:
    """Rate of the frontend in Hz; 16000 where there is none. Raises ManifestError."""
    conf = _section(_section(config, "WavFrontend") or config, "frontend_conf")
    text = conf.get("fs", str(_SAMPLE_RATE))
    if not isinstance(text, str) or not re.fullmatch(r"[1-9][0-9]{0,6}", text):
        raise ManifestError("frontend_conf.fs must be a sample rate in Hz", file=where)
    return int(text)


def token_list(config: Mapping[str, Any]) -> list[str]:
    """The tokens of an older config, in order of their ids; empty when it has none."""
    tokens = config.get("token_list")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return []
    return tokens


def _by_sections(config: Mapping[str, Any]) -> Kind | None:
    punctuation = config.get("punctuation")
    if isinstance(punctuation, str) and punctuation in _PUNCTUATION_KINDS:
        return _PUNCTUATION_KINDS[punctuation]
    if _section(config, "vadPostArgs") or "fsmn_layers" in _section(config, "encoder_conf"):
        return _VAD
    if _section(config, "predictor_conf") and _section(config, "decoder_conf"):
        return _OFFLINE
    return None


def _works_by_chunks(config: Mapping[str, Any]) -> bool:
    """Whether a Paraformer streams."""
    encoder = config.get("encoder")
    by_class = isinstance(encoder, str) and _plain(encoder) in _CHUNK_ENCODERS
    return by_class or _section(config, "encoder_conf").get("input_layer") == "pe_online"


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
