"""kill -9 at random points of installs, switches, rollbacks and removals: the agent starts on a
verified model every time, and it is the one that was chosen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from agent.store.bundle import BundleSource, write_bundle

from .graphs import tiny_vad
from .tables import add_row
from .tiny_models import vad_files, write_model

TABLE = "kill -9 at random points: kills, what served at the start after it"


def kill(times: int, root: Path, tmp_path: Path) -> Counter[str]:
    """What served after each of `times` kills."""
    bundles = []
    for name, slope in (("one", 2.0), ("two", 3.0)):
        folder = write_model(tmp_path / name, name, vad_files(model_onnx=tiny_vad(slope=slope)))
        bundles.append(tmp_path / f"{name}.tar")
        with open(bundles[-1], "wb") as file:
            write_bundle([BundleSource(name, folder)], file)
    command = [sys.executable, "-m", "tests.model_loading.killed", str(tmp_path / "state")]
    command += [str(root / "models"), *map(str, bundles), str(times), "7"]
    (tmp_path / "state").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    served: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        told = json.loads(line)
        assert told["refused"] == []
        assert told["roles_problem"] == ""
        assert told["serves"] == told["chosen"] or told["chosen"] == ""
        served[told["serves"]] += 1
    assert sum(served.values()) == times
    return served


def test_the_agent_starts_on_its_model_after_a_kill(root: Path, tmp_path: Path) -> None:
    kill(8, root, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_agent_starts_on_its_model_after_two_hundred_kills(root: Path, tmp_path: Path) -> None:
    served = kill(200, root, tmp_path)
    words = ", ".join(f"{model} {count} times" for model, count in served.most_common())
    add_row(TABLE, ("200", words))
    assert len(served) > 1, "the kills hit nothing but one state"
