"""The processor: the instructions that make int8 models pay."""

from __future__ import annotations

import os

from agent.doctor.box import Box
from agent.doctor.report import Check, ok, warning

NAME = "cpu"
DOT_PRODUCT = {
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX int8",
    "asimddp": "asimddp",
    "i8mm": "i8mm",
}
"""Flags of /proc/cpuinfo, x86 and ARM: products of int8 vectors in one instruction."""


def check_cpu(box: Box) -> list[Check]:
    """One line."""
    fields = first_processor(box.read("proc/cpuinfo"))
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    model = fields.get("model name") or box.read("proc/device-tree/model") or "unknown processor"
    seen = f"{model}, {os.cpu_count() or 1} cores"
    if not flags:
        advice = "measure with funasr-agent bench"
        return [warning(NAME, f"{seen}; /proc/cpuinfo names no features", advice)]
    found = [words for flag, words in DOT_PRODUCT.items() if flag in flags]
    if found:
        return [ok(NAME, f"{seen}; int8 pays: {', '.join(found)}")]
    advice = (
        "measure with funasr-agent bench: without dot-product instructions (VNNI, asimddp) an fp32 "
        "variant may be as fast"
    )
    return [warning(NAME, f"{seen}; int8 gains little on this CPU", advice)]


def first_processor(text: str) -> dict[str, str]:
    """Fields of the first processor, names in lower case; kernels show all of them alike."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            if fields:
                break
            continue
        fields.setdefault(name.strip().lower(), value.strip())
    return fields
