"""`funasr-agent gpu`: which ONNX Runtime is used, and putting a GPU's in its place."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path

from agent.commands.common import FAILED, FINE, complain
from agent.errors import AgentError
from agent.runtimes.install import downloaded, install_runtime, remove_runtime
from agent.runtimes.places import find_place
from agent.runtimes.proof import prove_providers
from agent.runtimes.wheel import this_python

_RESTART = "restart the agent to use it (systemctl restart funasr-agent)"


def gpu(args: argparse.Namespace) -> int:
    """Run the action; what goes wrong leaves as AgentError."""
    if args.action == "status":
        return _status(args)
    if args.action == "remove":
        if remove_runtime(find_place()):
            print(f"the runtime that came with the agent is in use again; {_RESTART}")
        else:
            print("the runtime that came with the agent is in use; nothing to remove")
        return FINE
    if args.wheel is not None:
        return _install(args, args.wheel.absolute())
    with downloaded(args.index_url, args.version) as wheel:
        return _install(args, wheel)


def _install(args: argparse.Namespace, wheel: Path) -> int:
    providers = ("cpu",) if args.without_gpu else ("cpu", "cuda")
    prove = functools.partial(prove_providers, providers=providers)
    installed = install_runtime(wheel, find_place(), this_python(), prove, complain)
    proven = "on the CPU only" if args.without_gpu else "on the GPU"
    print(f"{installed.name} {installed.version} is installed and proven {proven}; {_RESTART}")
    return FINE


def _status(args: argparse.Namespace) -> int:
    place = find_place()
    installed = place.installed()
    proofs = {name: prove_providers(None, (name,)) for name in ("cpu", "cuda")}
    if args.json:
        row = {
            "name": installed.name,
            "version": installed.version,
            "replaced": installed.replaced,
            "folder": str(place.root),
            "providers": {
                name: {"works": not proof.reason, "reason": proof.reason}
                for name, proof in proofs.items()
            },
        }
        print(json.dumps(row, ensure_ascii=False, indent=2))
    else:
        if not installed.name:
            raise AgentError(f"{place.root}: no ONNX Runtime is installed; set the agent up again")
        origin = "installed by `gpu install`" if installed.replaced else "came with the agent"
        print(f"{installed.name} {installed.version}, {origin}")
        for name, proof in proofs.items():
            print(f"{name:<5} {'works' if not proof.reason else proof.reason}")
    return FAILED if proofs["cpu"].reason else FINE
