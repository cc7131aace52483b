"""Changes a model store over and over and is killed in the middle: `python -m
tests.model_loading.killed STATE SHIPPED BUNDLE_A BUNDLE_B TIMES SEED`.

A light process forks one child that makes changes until it is killed (SIGKILL) at a random
moment, then another one that starts as the agent does; prints one JSON line a kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from agent.engine.base import EngineSettings
from agent.errors import AlreadyInstalled, ModelInUse, UnknownModel
from agent.store.lock import StoreLock
from agent.store.store import ModelStore, StoreSettings

LONGEST_S = 2.0
"""A round of changes takes about this long."""


def store_in(state: Path, shipped: Path) -> ModelStore:
    return ModelStore(
        StoreSettings(
            shipped=shipped,
            state=state,
            lists={"vad": ["builtin-vad"]},
            engine={"vad": EngineSettings()},
        )
    )


def change(state: Path, shipped: Path, bundles: list[Path], seed: int) -> None:
    """Install, use, roll back, remove, in any order, until the end of time."""
    chance = random.Random(seed)
    store = store_in(state, shipped)
    while True:
        with StoreLock(state), contextlib.suppress(AlreadyInstalled, UnknownModel, ModelInUse):
            step = chance.choice(["install", "install", "use", "use", "rollback", "remove"])
            installed = [str(m.ref) for m in store.models() if m.installed]  # type: ignore[union-attr]
            if step == "install":
                with open(chance.choice(bundles), "rb") as file:
                    store.install(file)
            elif step == "rollback":
                store.choose("vad", store.previous("vad"))
            elif installed and step == "use":
                store.choose("vad", chance.choice(installed))
            elif installed:
                store.remove(chance.choice(installed))


def start(state: Path, shipped: Path) -> None:
    """Load as the agent does at its start; what serves goes to stdout."""
    store = store_in(state, shipped)
    loaded = store.load({"vad": store.order("vad")})
    role = loaded.roles.get("vad")
    told = {
        "serves": str(role.ref) if role else None,
        "refused": [str(r) for r in loaded.refusals.get("vad", ())],
        "chosen": store.chosen("vad")[0],
        "roles_problem": store.roles_problem(),
    }
    print(json.dumps(told), flush=True)


def main(arguments: list[str]) -> None:
    state, shipped = Path(arguments[0]), Path(arguments[1])
    bundles = [Path(arguments[2]), Path(arguments[3])]
    times, seed = int(arguments[4]), int(arguments[5])
    chance = random.Random(seed)
    for number in range(times):
        victim = os.fork()
        if victim == 0:
            change(state, shipped, bundles, seed + number)
        time.sleep(chance.uniform(0, LONGEST_S))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        starter = os.fork()
        if starter == 0:
            start(state, shipped)
            os._exit(0)
        os.waitpid(starter, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
