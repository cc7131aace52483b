"""The power fails at any step of an install, a switch, a rollback, a removal: the agent starts on
a verified model every time."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from agent.engine.base import EngineSettings
from agent.store.store import ModelStore, StoreSettings

from .graphs import tiny_vad
from .replay import Call, Replay, Snapshot, Tree, record, write_tree
from .tables import add_row
from .tiny_models import vad_files, write_model

TABLE = "power cuts: change -> recorded calls, different disks, which model serves on them"

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed (apt install strace)"
)


def models(state: Path, *arguments: str) -> list[str]:
    settings = ["--set", f"state_dir={state}", "--config", "/dev/null"]
    return [sys.executable, "-m", "agent", "models", *arguments, *settings]


def serving(state: Path, root: Path) -> tuple[str, int]:
    """What serves the VAD with this state, and how many models were refused on the way."""
    store = ModelStore(
        StoreSettings(
            shipped=root / "models",
            state=state,
            lists={"vad": ["builtin-vad"]},
            engine={"vad": EngineSettings()},
        )
    )
    loaded = store.load({"vad": store.order("vad")}).roles["vad"]
    return str(loaded.ref), len(loaded.refusals)


def disks(before: Path, calls: list[Call], after: Path) -> list[Tree]:
    """Each different disk that a cut can leave behind: of the calls on the way from the folder
    `before` to `after`, as many as were made by then, and of those what was synced. The last one
    is that of a cut when the command has ended."""
    replay = Replay(before, after)
    kept: dict[tuple[tuple[str, int], ...], Snapshot] = {}
    for call in [None, *calls]:
        if call is not None:
            replay.play(call)
        for names in (False, True):
            snapshot = replay.snapshot(names=names)
            kept.setdefault(tuple((str(p), id(n) ^ size) for n, size, p in snapshot), snapshot)
    replay.read_contents()
    last = replay.snapshot(names=False)
    return [replay.tree(snapshot) for snapshot in (*kept.values(), last)]


def test_the_agent_starts_on_a_verified_model_after_a_cut_at_any_step(
    root: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    first = write_model(tmp_path / "one", "tiny", vad_files())
    second = write_model(tmp_path / "two", "tiny", vad_files(model_onnx=tiny_vad(slope=3.0)))
    changes = {
        "install": ("install", str(first)),
        "use": ("use", "vad=tiny"),
        "install another": ("install", str(second)),
        "use another": ("use", "vad=tiny"),
        "rollback": ("rollback", "vad"),
        "use again": ("rollback", "vad"),
        "verify": ("verify",),
    }
    state.mkdir()
    before, _ = serving(state, root)
    for change, arguments in changes.items():
        base = tmp_path / "base"
        shutil.copytree(state, base)
        # On a busy machine `verify` may find the model slow, and say so by its exit code.
        codes = (0, 1) if change == "verify" else (0,)
        calls = record(models(state, *arguments), state, tmp_path / "trace", codes=codes)
        after, refused = serving(state, root)
        assert refused == 0
        found: dict[str, int] = {}
        for number, tree in enumerate(disks(base, calls, state)):
            disk = tmp_path / "disks" / f"{change} {number}"
            write_tree(tree, disk)
            model, refused = serving(disk, root)
            assert model in (before, after), f"{change}, disk {number}: {model} serves"
            assert refused == 0, f"{change}, disk {number}: a chosen model was refused"
            found[model] = found.get(model, 0) + 1
            shutil.rmtree(disk)
        assert model == after, f"{change} had ended, but its result was not on the disk"
        shutil.rmtree(base)
        assert calls, change
        said = ", ".join(f"{model} on {count}" for model, count in found.items())
        add_row(TABLE, (change, str(len(calls)), str(sum(found.values())), said))
        before = after
