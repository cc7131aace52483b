"""ONNX Runtime's telemetry: off before the import, no file of it, no outside address."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import agent

PACKAGE = Path(agent.__file__).parent
ORT = PACKAGE / "engine" / "ort.py"

OPEN_A_SESSION = """
import os, sys
import numpy as np
from onnx import TensorProto, helper
graph = helper.make_graph(
    [helper.make_node("Identity", ["x"], ["y"])],
    "same",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
)
data = helper.make_model(
    graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8
).SerializeToString()
import agent.engine.ort
ort = sys.modules["onnxruntime"]
session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
for _ in range(3):
    session.run(None, {"x": np.ones(1, np.float32)})
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""

PYTHON = (sys.executable, "-c", OPEN_A_SESSION)
NETWORK = "connect,sendto,sendmsg,sendmmsg"


def environment(home: Path) -> dict[str, str]:
    """Every place that a program may write to by habit, inside `home`; telemetry not forbidden."""
    places = {
        name: str(home)
        for name in (
            "HOME",
            "TMPDIR",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
            "XDG_RUNTIME_DIR",
        )
    }
    kept = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    return {**kept, **places, "PYTHONDONTWRITEBYTECODE": "1"}


def test_telemetry_is_switched_off_before_the_runtime_is_imported() -> None:
    """In the source of the one module that imports it."""
    tree = ast.parse(ORT.read_text(encoding="utf-8"))
    switched = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == "ORT_DISABLE_TELEMETRY"
    ]
    imported = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and node.names[0].name.startswith("onnxruntime"))
        or (isinstance(node, ast.ImportFrom) and str(node.module).startswith("onnxruntime"))
    ]
    assert imported
    assert switched
    assert min(switched) < min(imported)


def test_a_session_leaves_no_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        PYTHON,
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
    assert list(home.rglob("*")) == []


def test_a_session_contacts_no_outside_address(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (apt install strace)")
    home = tmp_path / "home"
    home.mkdir()
    trace = tmp_path / "trace"
    done = subprocess.run(
        [strace, "-f", "-qq", "-e", f"trace={NETWORK}", "-o", str(trace), *PYTHON],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr.lower() or not trace.exists():
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    contacted = re.findall(r".*sin6?_(?:addr|port).*", trace.read_text(encoding="utf-8"))
    outside = [line for line in contacted if "127." not in line and '"::1"' not in line]
    assert outside == []
