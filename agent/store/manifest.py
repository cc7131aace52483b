"""manifest.yaml, schema 1: what a model folder holds, and how much of it is to be believed.

Parsing reports every problem of the file at once; nothing here reads a weight. Unknown keys
are left alone: a manifest may say more than this version of the agent reads.
"""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import ManifestError
from agent.store.names import MANIFEST_NAME, link_on_the_way, unsafe_name
from agent.store.strict_yaml import MAX_MANIFEST_BYTES, load_strict_yaml

SCHEMA = 1
TASKS = ("vad", "asr_online", "asr_offline", "punctuation")
PROVIDERS = ("cpu", "cuda")

_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_ID = 128


@dataclass(frozen=True)
class ListedFile:
    """What the manifest says of one file."""

    size: int
    """Bytes."""
    sha256: str
    """64 lower-case hex digits."""


@dataclass(frozen=True)
class Variant:
    """One form of the model's graphs, made for one execution provider."""

    name: str
    provider: str
    graphs: Mapping[str, str]
    """Graph role (`model`, `decoder`, `model_eb`) -> file name."""


@dataclass(frozen=True)
class GoldenClip:
    """Audio of the model folder, or a text, with the output that a sound model gives for it."""

    audio: str
    """File name; empty for a punctuation model."""
    text: str | None = None
    input: str = ""
    """For a punctuation model: the text without marks."""
    max_cer: float = 0.0
    segments: tuple[tuple[int, int], ...] | None = None
    """For a VAD: start and end of each segment in ms."""
    tolerance_ms: int = 0


@dataclass(frozen=True)
class Requirements:
    """What the model needs of the box."""

    onnxruntime: str = ""
    memory_mb: int = 0


@dataclass(frozen=True)
class Manifest:
    """A parsed manifest.yaml."""

    id: str
    family: str
    task: str
    files: Mapping[str, ListedFile]
    variants: tuple[Variant, ...]
    sha256: str
    """Of the bytes of manifest.yaml itself: it names files by hash, so it names the whole model."""
    languages: tuple[str, ...] = ()
    license: str = ""
    source: Mapping[str, str] = field(default_factory=dict)
    sample_rate: int = 16000
    requires: Requirements = Requirements()
    golden: GoldenClip | None = None
    data: bytes = field(default=b"", repr=False, compare=False)
    """The bytes of manifest.yaml, which a signature is over."""

    @property
    def sha8(self) -> str:
        """Head of `sha256`, as in installed folder names."""
        return self.sha256[:8]


def is_model_id(text: object) -> bool:
    """Whether `text` is a well-formed model id, safe as a folder name."""
    return isinstance(text, str) and len(text) <= _MAX_ID and bool(_ID.fullmatch(text))


def read_manifest(folder: Path) -> Manifest:
    """Read and parse `folder`/manifest.yaml. Raises ManifestError."""
    where = f"{folder.name}/{MANIFEST_NAME}"
    try:
        with open(folder / MANIFEST_NAME, "rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ManifestError(f"can't be read ({reason}); install it again", file=where) from None
    return parse_manifest(data, folder)


def parse_manifest(data: bytes, folder: Path) -> Manifest:
    """Parse the bytes of a manifest that lies in `folder`.

    Raises ManifestError naming every problem: unknown schema, missing or mistyped keys, file
    names that leave the folder, malformed hashes, variants that name files not listed.
    """
    where = f"{folder.name}/{MANIFEST_NAME}"
    tree = load_strict_yaml(data, where)
    if tree.get("schema") != SCHEMA or isinstance(tree.get("schema"), bool):
        raise ManifestError(
            f"schema is {_show(tree.get('schema'))}, this agent reads schema {SCHEMA}; "
            "install a model made for it",
            file=where,
        )
    reader = _Reader(tree, folder)
    manifest = reader.manifest(data)
    if reader.problems:
        raise ManifestError("; ".join(reader.problems), file=where)
    return manifest


class _Reader:
    """Turns the YAML tree into a Manifest and collects what is wrong with it."""

    def __init__(self, tree: dict[Any, Any], folder: Path) -> None:
        self.tree = tree
        self.folder = folder
        self.problems: list[str] = []

    def manifest(self, data: bytes) -> Manifest:
        model_id = self._text("id")
        if model_id and not is_model_id(model_id):
            self._wrong("id", model_id, "lower-case letters, digits, '.', '_' and '-'")
        task = self._text("task")
        if task and task not in TASKS:
            self._wrong("task", task, "one of " + ", ".join(TASKS))
        files = self._files()
        return Manifest(
            id=model_id,
            family=self._text("family"),
            task=task,
            files=files,
            variants=self._variants(files),
            sha256=hashlib.sha256(data).hexdigest(),
            data=data,
            languages=self._languages(),
            license=self._text("license"),
            source=self._source(),
            sample_rate=self._whole(self.tree, "sample_rate", "sample_rate", least=1),
            requires=self._requires(),
            golden=self._golden(task),
        )

    def _files(self) -> dict[str, ListedFile]:
        files: dict[str, ListedFile] = {}
        for name, entry in self._mapping("files").items():
            at = f"files.{name}"
            if not isinstance(name, str) or (reason := unsafe_name(name)):
                reason = reason if isinstance(name, str) else "is not text"
                self.problems.append(f"{at}: the file name {reason}")
                continue
            if reason := link_on_the_way(self.folder, name):
                self.problems.append(f"{at}: {reason}")
                continue
            if not isinstance(entry, dict):
                self._wrong(at, entry, "{size: ..., sha256: ...}")
                continue
            size = self._whole(entry, "size", f"{at}.size", least=0)
            sha256 = entry.get("sha256")
            if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
                self._missing_or_wrong(f"{at}.sha256", sha256, "64 hex digits in quotes")
                continue
            files[name] = ListedFile(size, sha256.lower())
        if "files" in self.tree and not self._mapping_or_empty("files"):
            self.problems.append("files: lists nothing")
        return files

    def _variants(self, files: Mapping[str, ListedFile]) -> tuple[Variant, ...]:
        entries = self.tree.get("variants")
        if not isinstance(entries, list) or not entries:
            self._missing_or_wrong("variants", entries, "a list of variants, at least one")
            return ()
        variants: list[Variant] = []
        for i, entry in enumerate(entries):
            at = f"variants.{i}"
            if not isinstance(entry, dict):
                self._wrong(at, entry, "{name: ..., provider: ..., graphs: {...}}")
                continue
            name, provider, graphs = (entry.get(k) for k in ("name", "provider", "graphs"))
            if not isinstance(name, str) or not name:
                self._missing_or_wrong(f"{at}.name", name, "text")
            elif any(v.name == name for v in variants):
                self.problems.append(f"{at}.name: {name!r} is used twice")
            if not isinstance(provider, str) or provider not in PROVIDERS:
                self._missing_or_wrong(f"{at}.provider", provider, " or ".join(PROVIDERS))
            if not isinstance(graphs, dict) or not graphs:
                self._missing_or_wrong(f"{at}.graphs", graphs, "{model: FILE}")
                continue
            for role, file in graphs.items():
                if not isinstance(file, str) or file not in self._mapping_or_empty("files"):
                    self.problems.append(f"{at}.graphs.{role}: {_show(file)} is not under files")
            if "model" not in graphs:
                self.problems.append(f"{at}.graphs: the graph `model` is missing")
            named = {str(k): v for k, v in graphs.items() if isinstance(v, str)}
            variants.append(Variant(_text_of(name), _text_of(provider), named))
        return tuple(variants)

    def _languages(self) -> tuple[str, ...]:
        value = self.tree.get("languages", [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong("languages", value, "a list of language codes (quote 'no')")
            return ()
        return tuple(value)

    def _source(self) -> dict[str, str]:
        source = self._mapping_or_empty("source")
        for key, value in source.items():
            if isinstance(value, dict | list | set | tuple):
                self._wrong(f"source.{key}", value, "text")
                return {}
        return {str(k): str(v) for k, v in source.items()}

    def _requires(self) -> Requirements:
        tree = self._mapping_or_empty("requires")
        runtime = tree.get("onnxruntime", "")
        if not isinstance(runtime, str):
            self._wrong("requires.onnxruntime", runtime, 'text such as ">=1.17"')
            runtime = ""
        memory = 0
        if "memory_mb" in tree:
            memory = self._whole(tree, "memory_mb", "requires.memory_mb", least=0)
        return Requirements(runtime, memory)

    def _golden(self, task: str) -> GoldenClip | None:
        if self.tree.get("golden") is None:
            return None
        tree = self._mapping("golden")
        audio, read = tree.get("audio"), tree.get("input")
        if task == "punctuation":
            if not isinstance(read, str) or not read:
                self._missing_or_wrong("golden.input", read, "the text without marks, in quotes")
        elif not isinstance(audio, str) or audio not in self._mapping_or_empty("files"):
            self.problems.append(f"golden.audio: {_show(audio)} is not under files")
        text = tree.get("text")
        if text is not None and not isinstance(text, str):
            self._wrong("golden.text", text, "text in quotes")
            text = None
        max_cer = tree.get("max_cer", 0.0)
        if isinstance(max_cer, bool) or not isinstance(max_cer, int | float) or not max_cer >= 0:
            self._wrong("golden.max_cer", max_cer, "a number from 0")
            max_cer = 0.0
        segments = tree.get("segments")
        if segments is not None and not _is_segments(segments):
            self._wrong("golden.segments", segments, "pairs of start and end in ms")
            segments = None
        tolerance = 0
        if "tolerance_ms" in tree:
            tolerance = self._whole(tree, "tolerance_ms", "golden.tolerance_ms", least=0)
        pairs = None if segments is None else tuple((s[0], s[1]) for s in segments)
        return GoldenClip(_text_of(audio), text, _text_of(read), float(max_cer), pairs, tolerance)

    def _text(self, key: str) -> str:
        value = self.tree.get(key)
        if isinstance(value, str) and value:
            return value
        self._missing_or_wrong(key, value, "text")
        return ""

    def _whole(self, tree: Mapping[Any, Any], key: str, at: str, *, least: int) -> int:
        value = tree.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self._missing_or_wrong(at, value, f"a whole number from {least}")
        return least

    def _mapping(self, key: str) -> dict[Any, Any]:
        value = self.tree.get(key)
        if isinstance(value, dict):
            return value
        self._missing_or_wrong(key, value, "a mapping")
        return {}

    def _mapping_or_empty(self, key: str) -> dict[Any, Any]:
        """As `_mapping`, for a key that may be missing or whose type has been judged already."""
        value = self.tree.get(key)
        return value if isinstance(value, dict) else {}

    def _missing_or_wrong(self, at: str, value: object, right: str) -> None:
        if value is None:
            self.problems.append(f"{at}: is missing")
        else:
            self._wrong(at, value, right)

    def _wrong(self, at: str, value: object, right: str) -> None:
        self.problems.append(f"{at}: is {_show(value)}, must be {right}")


def _is_segments(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(ms) is int for ms in pair)
        for pair in value
    )


def _text_of(value: object) -> str:
    """A value that is no text has been told already."""
    return value if isinstance(value, str) else ""


def _show(value: object) -> str:
    # Aliases can make a value that is endless when it is written out.
    text = repr(value) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
