"""The sides of a comparison: this agent's models, funasr_onnx and sherpa-onnx, on the same weights.

Each is handed samples and has to make its own features, as in use. The other packages are imported
when their side is opened.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.engine.frontend import parse_cmvn
from agent.store.manifest import read_manifest
from agent.store.store import ModelStore, StoreSettings
from agent.store.verify import read_verified
from agent.types import SAMPLE_RATE, Int16, StreamOptions

HOP_SAMPLES = SAMPLE_RATE * 600 // 1000
_SCALE = 32768.0

Decode = Callable[[Int16], int]
"""Samples [n] -> number of tokens that were read in them."""
OpenStream = Callable[[], Callable[[Int16], object]]
"""Begins a stream: what then takes its hops, `HOP_SAMPLES` each."""


def our_model(folder: Path, state: Path, threads: int) -> tuple[Any, str]:
    """The model as the agent runs it on this box, and in which form; proven here if it was not
    yet. `state`: a folder of the agent's own, which keeps the proof."""
    manifest = read_manifest(folder)
    role: Any = manifest.task
    settings = StoreSettings(
        shipped=folder.parent,
        state=state,
        lists={role: [manifest.id]},
        engine={role: EngineSettings(threads=threads)},
        provider="cpu",
    )
    loaded = ModelStore(settings).load_one(role, manifest.id)
    assert loaded.chosen is not None
    derived = loaded.chosen.derived
    return loaded.model, derived.name if derived is not None else loaded.chosen.variant.name


def our_variant(folder: Path, name: str, threads: int) -> Any:
    """A variant of the model's manifest as it is."""
    manifest = read_manifest(folder)
    variant = next(v for v in manifest.variants if v.name == name)
    with read_verified(manifest, folder, variant) as files:
        return load_model(manifest.family, files, EngineSettings(threads=threads))


def our_decode(model: Any) -> Decode:
    """`Decode` of an offline recogniser of the agent."""
    return lambda samples: len(model.decode([samples], StreamOptions())[0].tokens)


def our_streams(model: Any) -> OpenStream:
    """`OpenStream` of a streaming recogniser of the agent."""

    def begin() -> Callable[[Int16], object]:
        accept: Callable[[Int16], object] = model.start_stream(StreamOptions()).accept
        return accept

    return begin


def funasr_onnx_decode(folder: Path, threads: int) -> Decode:
    """funasr_onnx's Paraformer on the published int8 graph."""
    import funasr_onnx

    logging.disable(logging.WARNING)
    model = funasr_onnx.Paraformer(str(folder), quantize=True, intra_op_num_threads=threads)

    def decode(samples: Int16) -> int:
        (result,) = model(samples.astype(np.float32) / _SCALE)
        return len(result["preds"][1])

    return decode


def funasr_onnx_streams(folder: Path, threads: int) -> OpenStream:
    """funasr_onnx's streaming Paraformer on the published int8 graphs."""
    from funasr_onnx.paraformer_online_bin import Paraformer

    logging.disable(logging.WARNING)
    model = Paraformer(
        str(folder), quantize=True, chunk_size=[5, 10, 5], intra_op_num_threads=threads
    )

    def begin() -> Callable[[Int16], object]:
        # The feature extractor keeps a stream's tail in itself.
        model.frontend.cache_reset()
        state: dict[str, Any] = {"cache": {}, "is_final": False}
        return lambda samples: model(audio_in=samples.astype(np.float32) / _SCALE, param_dict=state)

    return begin


def sherpa_decode(folder: Path, work: Path, threads: int) -> Decode:
    """sherpa-onnx's offline Paraformer on the published int8 graph."""
    import sherpa_onnx

    prepared = prepare_for_sherpa(folder, work)
    recogniser = sherpa_onnx.OfflineRecognizer.from_paraformer(
        str(prepared / "model_quant.onnx"), str(prepared / "tokens.txt"), num_threads=threads
    )

    def decode(samples: Int16) -> int:
        stream = recogniser.create_stream()
        stream.accept_waveform(SAMPLE_RATE, samples.astype(np.float32) / _SCALE)
        recogniser.decode_stream(stream)
        return len(stream.result.tokens)

    return decode


def sherpa_streams(folder: Path, work: Path, threads: int) -> OpenStream:
    """sherpa-onnx's streaming Paraformer on the published int8 graphs."""
    import sherpa_onnx

    prepared = prepare_for_sherpa(folder, work)
    recogniser = sherpa_onnx.OnlineRecognizer.from_paraformer(
        tokens=str(prepared / "tokens.txt"),
        encoder=str(prepared / "model_quant.onnx"),
        decoder=str(prepared / "decoder_quant.onnx"),
        num_threads=threads,
    )

    def begin() -> Callable[[Int16], object]:
        stream = recogniser.create_stream()

        def accept(samples: Int16) -> None:
            stream.accept_waveform(SAMPLE_RATE, samples.astype(np.float32) / _SCALE)
            while recogniser.is_ready(stream):
                recogniser.decode_stream(stream)

        return accept

    return begin


def prepare_for_sherpa(folder: Path, work: Path) -> Path:
    """The same graphs below `work` with what sherpa-onnx looks for: tokens.txt, and the CMVN and
    sizes in their metadata."""
    target = work / f"sherpa-{folder.name}"
    target.mkdir(parents=True, exist_ok=True)
    tokens = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    lines = "".join(f"{token} {number}\n" for number, token in enumerate(tokens))
    (target / "tokens.txt").write_text(lines, encoding="utf-8")
    metadata = _metadata(folder, len(tokens))
    for graph in sorted(folder.glob("*_quant.onnx")):
        copy = target / graph.name
        shutil.copyfile(graph, copy)
        with copy.open("ab") as file:
            file.write(metadata)
    return target


def _metadata(folder: Path, vocabulary: int) -> bytes:
    """Entries that, behind a serialised graph, are read as a part of it."""
    from onnx import ModelProto, StringStringEntryProto

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    cmvn = parse_cmvn((folder / "am.mvn").read_bytes())
    values = {
        "lfr_window_size": config["frontend_conf"]["lfr_m"],
        "lfr_window_shift": config["frontend_conf"]["lfr_n"],
        "neg_mean": ",".join(map(str, cmvn.shift)),
        "inv_stddev": ",".join(map(str, cmvn.scale)),
        "model_type": "paraformer",
        "version": 1,
        "vocab_size": vocabulary,
        "encoder_output_size": config["encoder_conf"]["output_size"],
        "decoder_num_blocks": config["decoder_conf"]["att_layer_num"],
        "decoder_kernel_size": config["decoder_conf"]["kernel_size"],
    }
    entries = [StringStringEntryProto(key=key, value=str(v)) for key, v in values.items()]
    return bytes(ModelProto(metadata_props=entries).SerializeToString())
