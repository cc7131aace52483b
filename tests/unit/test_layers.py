"""Imports run one way, and heavy libraries have one door each."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent

PACKAGE = Path(agent.__file__).parent

BASE = {"types", "errors", "said", "stamps", "subtitles", "joining", "log_context"}
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "types": set(),
    "errors": set(),
    "log_context": set(),
    "said": set(),
    "stamps": {"types"},
    "subtitles": {"types", "stamps"},
    "joining": set(),
    "networks": set(),
    "voice_commands": {"types"},
    "config_section": set(),
    "config_commands": {"config_section", "networks"},
    "config_lines": set(),
    "config": {"errors", "networks", "config_section", "config_commands"},
    "config_loader": {"errors", "config", "config_commands", "config_lines", "voice_commands"},
    "live_config": {"config", "config_section"},
    "audio": BASE,
    "protocols": BASE,
    "engine": BASE,
    "store": BASE | {"engine"},
    "pipeline": BASE | {"config", "audio", "engine", "store", "protocols", "voice_commands"},
    "web": BASE
    | {"config", "live_config", "networks", "audio", "engine", "store", "protocols", "pipeline"},
    "ops": BASE
    | {"config", "config_commands", "live_config", "networks"}
    | {"audio", "engine", "store", "protocols", "pipeline"},
    "runtimes": BASE | {"config"},
}
"""Part -> parts that it may import (besides itself); parts not named here may import all."""
TOP = {"assembly", "app", "daemon", "model_start", "bench", "doctor", "commands", "cli", "__main__"}

DOORS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("engine/ort.py", "engine/placement.py"),
    "onnx": ("store/derive.py", "store/inspect_graph.py", "store/rewrite.py"),
    "kaldi_native_fbank": ("engine/frontend.py",),
    "kaldifst": ("engine/itn.py",),
    "wetext": (),
    "soundfile": ("audio/",),
    "soxr": ("audio/",),
    "pyaudio": ("audio/microphone.py",),
    "av": ("audio/containers.py",),
    "aiohttp": ("web/", "doctor/remote.py", "ops/hook_webhook.py"),
    "rapidfuzz": ("voice_commands/matcher.py",),
    "torch": (),
    "funasr": (),
    "funasr_onnx": (),
    "librosa": (),
}
"""Library -> files or folders that may import it."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            assert node.module is not None
            yield node.module
            if node.module == "agent":
                yield from (f"agent.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0]
    return name.removesuffix(".py").replace("__init__", "")


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in modules()} <= set(MAY_IMPORT) | TOP


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(path)
    parts = set(MAY_IMPORT) | TOP
    used = {n.split(".")[1] for n in imports(path) if n.startswith("agent.")} & parts
    if part in MAY_IMPORT:
        assert used <= MAY_IMPORT[part] | {part}
    elif part in {"app", "daemon", "model_start"}:
        assert not used & {"cli", "commands", "__main__"}
    elif part == "assembly":
        assert not used & {"cli", "commands", "app", "__main__"}
    elif part == "doctor":
        assert not used & {"cli", "commands", "__main__"}
    elif part == "commands":
        assert not used & {"cli", "__main__"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_have_one_door(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    for imported in imports(path):
        doors = DOORS.get(imported.split(".")[0])
        if doors is not None:
            assert name.startswith(doors or ("nowhere",)), f"{name} imports {imported}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("agent.web", {"onnxruntime", "pyaudio"}),
        ("agent.store.verify", {"onnxruntime", "aiohttp", "soundfile"}),
        ("agent.store.store", {"onnxruntime", "onnx", "aiohttp", "soundfile"}),
        ("agent.commands.models", {"onnxruntime", "onnx", "aiohttp", "rich"}),
        ("agent.cli", {"onnxruntime", "aiohttp", "numpy.random", "rich"}),
        ("agent.audio.decoder_process", {"onnxruntime", "aiohttp"}),
    ],
)
def test_light_modules_stay_light(module: str, absent: set[str]) -> None:
    package = PACKAGE / module.split(".")[1]
    names = [module]
    if module == "agent.web":
        names += [f"agent.web.{p.stem}" for p in package.glob("*.py") if p.stem != "__init__"]
    code = (
        f"import sys, {', '.join(names)}\nprint(*(m for m in {sorted(absent)} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
