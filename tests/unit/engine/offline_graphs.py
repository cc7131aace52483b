"""Small real graphs that read the same tokens in any audio, and the files of models around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.unit.engine.graphs import Files, mvn

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
DIM = 560
CONFIG = b"model_conf: {predictor_bias: 1}\nfrontend_conf: {fs: 16000}\n"
WORDS = ("<blank>", "<s>", "</s>", "hel@@", "lo", "\u4f60", "\u597d", "u", "s", "<unk>")
"""A vocabulary as Paraformer's are."""
EOS = 2

TAGS = (
    *("<|zh|>", "<|en|>", "<|nospeech|>", "<|HAPPY|>", "<|EMO_UNKNOWN|>"),
    *("<|Speech|>", "<|BGM|>", "<|Event_UNK|>", "<|withitn|>", "<|woitn|>"),
)
PIECES = ("<unk>", "<s>", "</s>", "\u2581hel", "lo", "\u2581", "\u4f60", "\u597d", ",", *TAGS)
"""A vocabulary as SenseVoice's is; id 0 is CTC's blank."""


def paraformer_graph(
    ids: Sequence[int] = (5, 6, EOS),
    *,
    count: int | None = None,
    peaks: Sequence[float] | None = None,
    biased: bool = False,
    nan: bool = False,
    opset: int = 14,
) -> bytes:
    """Reads `ids`; token_num is `count`, else the number of feature frames.

    With `peaks` it has times; with `biased` every row of bias_embed [B,N,V] adds to the logits.
    """
    logits = 1.5 * np.eye(len(WORDS), dtype=np.float32)[list(ids)][None]
    constants: dict[str, Any] = {"read": logits * (np.nan if nan else 1), "axis": np.array([1])}
    inputs = [("speech", FLOAT, ["B", "T", DIM]), ("speech_lengths", INT32, ["B"])]
    outputs = [("logits", FLOAT, ["B", "L", len(WORDS)]), ("token_num", INT32, ["B"])]
    nodes = []
    if count is None:
        nodes.append(helper.make_node("Identity", ["speech_lengths"], ["token_num"]))
    else:
        constants["count"] = np.array([count], np.int32)
        nodes.append(helper.make_node("Identity", ["count"], ["token_num"]))
    if biased:
        inputs.append(("bias_embed", FLOAT, ["B", "N", len(WORDS)]))
        nodes.append(helper.make_node("ReduceSum", ["bias_embed", "axis"], ["push"], keepdims=1))
        nodes.append(helper.make_node("Add", ["read", "push"], ["logits"]))
    else:
        nodes.append(helper.make_node("Identity", ["read"], ["logits"]))
    if peaks is not None:
        constants["peaks"] = np.array([peaks], np.float32)
        for name in ("us_alphas", "us_cif_peak"):
            outputs.append((name, FLOAT, ["B", "U"]))
            nodes.append(helper.make_node("Identity", ["peaks"], [name]))
    return graph(nodes, inputs, outputs, constants, opset)


def hotword_graph(columns: int | str = 10, *, size: int = len(WORDS)) -> bytes:
    """hotword i32[n,columns] -> hw_embed f32[columns,n,size]: how often each id was seen so far."""
    constants = {"eye": np.eye(size, dtype=np.float32), "first": np.array(0)}
    nodes = [
        helper.make_node("Gather", ["eye", "hotword"], ["one_hot"]),
        helper.make_node("Transpose", ["one_hot"], ["by_time"], perm=[1, 0, 2]),
        helper.make_node("CumSum", ["by_time", "first"], ["hw_embed"]),
    ]
    inputs = [("hotword", INT32, ["n", columns])]
    return graph(nodes, inputs, [("hw_embed", FLOAT, [columns, "n", size])], constants)


def sensevoice_graph(
    speech: Sequence[int] = (0, 3, 3, 0, 4),
    *,
    emotion: str = "<|HAPPY|>",
    event: str = "<|Speech|>",
    nan: bool = False,
) -> bytes:
    """Answers the language asked for (auto: zh), `emotion`, `event` and the form asked for, then
    reads the path `speech`, one id a frame, as far as there is audio."""
    eye = np.eye(len(PIECES), dtype=np.float32)
    languages = np.zeros((16, len(PIECES)), np.float32)
    for index, tag in ((0, "<|zh|>"), (3, "<|zh|>"), (4, "<|en|>"), (13, "<|nospeech|>")):
        languages[index] = eye[PIECES.index(tag)]
    forms = np.zeros((16, len(PIECES)), np.float32)
    forms[14], forms[15] = eye[PIECES.index("<|withitn|>")], eye[PIECES.index("<|woitn|>")]
    told = [PIECES.index(emotion), PIECES.index(event)]
    constants = {
        "languages": languages,
        "forms": forms,
        "told": eye[told][None],
        "spoken": eye[list(speech)][None] * (np.nan if nan else 1),
        "axis": np.array([1]),
        "four": np.array([4], np.int32),
    }
    nodes = [
        helper.make_node("Gather", ["languages", "language"], ["language_row"]),
        helper.make_node("Gather", ["forms", "textnorm"], ["form_row"]),
        helper.make_node("Unsqueeze", ["language_row", "axis"], ["language_frame"]),
        helper.make_node("Unsqueeze", ["form_row", "axis"], ["form_frame"]),
        helper.make_node(
            "Concat", ["language_frame", "told", "form_frame", "spoken"], ["ctc_logits"], axis=1
        ),
        helper.make_node("Add", ["speech_lengths", "four"], ["encoder_out_lens"]),
    ]
    inputs = [
        ("speech", FLOAT, ["B", "T", DIM]),
        ("speech_lengths", INT32, ["B"]),
        ("language", INT32, ["B"]),
        ("textnorm", INT32, ["B"]),
    ]
    outputs = [("ctc_logits", FLOAT, ["B", "L", len(PIECES)]), ("encoder_out_lens", INT32, ["B"])]
    return graph(nodes, inputs, outputs, constants)


def paraformer_files(data: bytes, *, seg_dict: bytes | None = None, **graphs: bytes) -> Files:
    """A model around a Paraformer graph."""
    side = _side(WORDS, CONFIG)
    if seg_dict is not None:
        side["seg_dict"] = seg_dict
    return Files(side, {"model": data, **graphs})


def sensevoice_files(data: bytes) -> Files:
    """A model around a SenseVoice graph."""
    return Files(_side(PIECES, b"frontend_conf: {fs: 16000}\n"), {"model": data})


def _side(tokens: Sequence[str], config: bytes) -> dict[str, bytes]:
    return {"config.yaml": config, "tokens.json": json.dumps(tokens).encode(), "am.mvn": mvn(DIM)}


def graph(
    nodes: list[Any],
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, int, list[Any]]],
    constants: dict[str, Any],
    opset: int = 14,
) -> bytes:
    """A serialised model."""
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())
