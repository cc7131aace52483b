"""In which forms a model can run on a provider, the one that is expected to be fastest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.store.manifest import Manifest, Variant
from agent.store.roles import Role

DERIVED_FOR_CUDA = ("fp16-from-int8", "fp32-from-int8")
"""Derivations in order of expected speed."""
HALVED = "fp16-from-fp32"
"""Derivation of a model that has fp32 alone for CUDA: half the memory, which a Jetson's CPU shares.
"""
DERIVED_FOR_CPU = ("s8-from-u8", "optimised")
DERIVED_FOR_STREAMS = ("lean-by-stream", "s8-by-stream", "lean-s8", *DERIVED_FOR_CPU)
"""For the streaming recogniser: with the first two, live hops can share a run without changing a
number. Alone they are a few per cent slower than the others, eight together take two thirds of the
time."""
DERIVED = frozenset((HALVED, *DERIVED_FOR_CUDA, *DERIVED_FOR_STREAMS))
"""Every derivation that may have been made of a model."""
DERIVE_SIZES = range(16 << 20, 512 << 20)
"""Bytes of a variant's graphs that others are derived from for the CPU: smaller ones gain nothing
that is worth a second copy on the disk, and larger ones would take too much of it."""


@dataclass(frozen=True)
class Candidate:
    """A variant on a provider, perhaps with graphs derived for it."""

    variant: Variant
    provider: str
    derived: str = ""


def candidates(
    role: Role, manifest: Manifest, provider: str, *, derive_sizes: range = DERIVE_SIZES
) -> Iterator[Candidate]:
    """In order of expected speed; the manifest's own order within a precision.

    CUDA: fp16, then fp32, each derived where the model lacks it, and int8 at the very end, since it
    is the slowest there. A VAD has nothing to gain from derived graphs: it runs on a few frames at
    a time.
    """
    own = [variant for variant in manifest.variants if variant.provider == provider]
    int8 = [variant for variant in own if provider == "cuda" and _is_int8(variant)]
    own = [variant for variant in own if variant not in int8]
    if provider == "cuda":
        own.sort(key=lambda variant: "16" not in variant.name)
        if own and "16" not in own[0].name and role != "vad":
            yield Candidate(own[0], provider, HALVED)
    for variant in own:
        size = sum(manifest.files[file].size for file in variant.graphs.values())
        if provider == "cpu" and role != "vad" and size in derive_sizes:
            for derivation in DERIVED_FOR_STREAMS if role == "asr_online" else DERIVED_FOR_CPU:
                yield Candidate(variant, provider, derivation)
        yield Candidate(variant, provider)
    if provider == "cuda" and not own and role != "vad":
        source = next((v for v in manifest.variants if v.provider == "cpu" or v in int8), None)
        if source is not None:
            for derivation in DERIVED_FOR_CUDA:
                yield Candidate(source, provider, derivation)
    for variant in int8:
        yield Candidate(variant, provider)


def _is_int8(variant: Variant) -> bool:
    return "int8" in variant.name or "quant" in variant.name
