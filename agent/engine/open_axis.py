"""Opens a size that an exporter fixed in a graph's signature.

FunASR exports its hotword encoder with ten columns, from the dummy input it traced with; nothing
inside the graph depends on it. The bytes are patched in place, so the onnx library is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.errors import CompatibilityError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""
_MODEL_GRAPH = 7
_GRAPH_SIGNATURE = (11, 12)
"""`input` and `output` of GraphProto."""
_VALUE_NAME = 1
_VALUE_TO_DIM = (2, 1, 2, 1)
"""From ValueInfoProto through `type`, `tensor_type` and `shape` to `dim`."""
_DIM_VALUE = 1
_DIM_PARAM_TAG = 2 << 3 | _BYTES
_FILLER = ord("n")

_Span = tuple[int, int]
"""[start, end) of a message."""
_Field = tuple[int, int, int, int]
"""Number, index of the tag, and the content's [start, end)."""


def open_axis(graph: bytes, name: str, axis: int) -> bytes:
    """The serialised ONNX model with size `axis` of its input or output `name` made variable.

    Raises CompatibilityError when the bytes are no such model.
    """
    patched = bytearray(graph)
    try:
        for dim in _dims(graph, name, axis):
            for number, tag, _, end in _fields(graph, *dim):
                if number == _DIM_VALUE:
                    length = end - tag - 2
                    patched[tag:end] = bytes([_DIM_PARAM_TAG, length, *[_FILLER] * length])
    except (IndexError, ValueError) as error:
        raise CompatibilityError(f"is not a readable ONNX model: {error}", file=name) from None
    return bytes(patched)


def _dims(data: bytes, name: str, axis: int) -> Iterator[_Span]:
    """The description of that axis."""
    for signature in _GRAPH_SIGNATURE:
        for value in _descend(data, (0, len(data)), (_MODEL_GRAPH, signature)):
            names = [data[a:b].decode() for a, b in _descend(data, value, (_VALUE_NAME,))]
            if names == [name]:
                yield from list(_descend(data, value, _VALUE_TO_DIM))[axis : axis + 1]


def _descend(data: bytes, span: _Span, path: Sequence[int]) -> Iterator[_Span]:
    """Each sub-message that the field numbers `path` lead to."""
    if not path:
        yield span
        return
    for number, _, start, end in _fields(data, *span):
        if number == path[0]:
            yield from _descend(data, (start, end), path[1:])


def _fields(data: bytes, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        tag = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            start, (_, at) = at, _varint(data, at)
        elif kind == _BYTES:
            length, start = _varint(data, at)
            at = start + length
        elif kind in (_FIXED32, _FIXED64):
            start, at = at, at + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind} at byte {tag}")
        if at > end:
            raise ValueError(f"the field at byte {tag} is cut off")
        yield number, tag, start, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the index behind it. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
