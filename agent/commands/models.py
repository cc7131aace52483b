"""`funasr-agent models`: what is installed, verified and chosen on this box."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

from agent.assembly import model_store
from agent.commands import model_files
from agent.commands.common import FAILED, FINE, USAGE, complain, config_from
from agent.commands.daemon import Daemon, running_daemon
from agent.config import Config
from agent.errors import UnknownModel
from agent.store.listing import model_rows
from agent.store.lock import StoreLock
from agent.store.refs import parse_ref
from agent.store.roles import NO_MODEL, ROLES, Role
from agent.store.store import ModelStore

Row = Mapping[str, Any]


def models(args: argparse.Namespace) -> int:
    """Run the action; what goes wrong leaves as AgentError."""
    actions: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "verify": _verify,
        "use": _use,
        "rollback": _rollback,
        "remove": _remove,
        "install": model_files.install,
        "bundle": model_files.bundle,
        "fetch": model_files.fetch_model,
        "keygen": model_files.keygen,
        "sign": model_files.sign,
    }
    return actions[args.action](args)


@contextmanager
def changing(config: Config) -> Iterator[Daemon | ModelStore]:
    """Who makes a change: the running daemon, else this process, which then holds the lock."""
    daemon = running_daemon(config)
    if daemon is not None:
        yield daemon
        return
    with StoreLock(config.state_dir):
        yield model_store(config)


def _list(args: argparse.Namespace) -> int:
    config = config_from(args)
    daemon = running_daemon(config)
    rows = daemon.get("/api/v1/models")["models"] if daemon else _local_rows(config)
    if args.json:
        print(json.dumps({"models": rows}, ensure_ascii=False, indent=2))
        return FAILED if any(row["state"] == "refused" for row in rows) else FINE
    table = [("MODEL", "TASK", "FAMILY", "SIZE", "STATE")]
    table += [_cells(row) for row in rows]
    _print_table(table)
    for row in rows:
        if row["state"] == "refused":
            complain(f"{row['ref']}: {row['reason']}")
    return FAILED if any(row["state"] == "refused" for row in rows) else FINE


def _local_rows(config: Config) -> list[dict[str, Any]]:
    return model_rows(model_store(config), {})


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if row["state"] == "refused":
        return row["ref"], "", "", "", f"refused at the level {row['level']}"
    words = ["comes with the agent" if not row["installed"] else "installed"]
    words.append("pinned" if row["pinned"] else "unpinned")
    if row["serves"]:
        words.append(f"serves {row['serves']}")
    if row["chosen_for"]:
        words.append(f"chosen for {row['chosen_for']}")
    if row["previous_of"]:
        words.append(f"before that {row['previous_of']}")
    proof = row["proof"]
    if proof and proof["variant"]:
        words.append(f"{proof['derived'] or proof['variant']} on {proof['provider']}")
    elif not proof:
        words.append("not tried on this box yet")
    return row["ref"], row["task"], row["family"], f"{row['size_mb']:.1f} MB", ", ".join(words)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _verify(args: argparse.Namespace) -> int:
    config = config_from(args)
    with changing(config) as owner:
        if isinstance(owner, Daemon):
            checkups = owner.post("/api/v1/check", {"id": args.id or ""})["models"]
        else:
            found = owner.verify(args.id or "")
            checkups = [{**asdict(checkup), "problem": checkup.problem} for checkup in found]
    if args.json:
        print(json.dumps({"models": checkups}, ensure_ascii=False, indent=2))
    for checkup in checkups if not args.json else ():
        print(_verdict(checkup))
    return FAILED if any(checkup["problem"] for checkup in checkups) else FINE


def _verdict(checkup: Row) -> str:
    if not checkup["serves"]:
        level = f"{checkup['level']}: " if checkup["level"] else ""
        return f"refused  {checkup['ref']}  {level}{checkup['message']}"
    speed = f"{checkup['variant']} on {checkup['provider']}"
    if checkup["real_time_factor"]:
        speed += f", real-time factor {checkup['real_time_factor']:.4f}"
    if checkup["recorded"]:
        speed += f" ({checkup['recorded']:.4f} when it was installed)"
    pinned = "pinned" if checkup["pinned"] else "unpinned"
    mark = "slow   " if checkup["slow"] else "ok     "
    return f"{mark}  {checkup['ref']}  {pinned}, {speed}"


def _use(args: argparse.Namespace) -> int:
    role_name, equals, name = args.choice.partition("=")
    if not equals or not name or role_name not in ROLES:
        complain(f"write it as ROLE=ID; roles are {', '.join(ROLES)}")
        return USAGE
    role = cast(Role, role_name)
    with changing(config_from(args)) as owner:
        if isinstance(owner, Daemon):
            done = owner.post(f"/api/v1/models/{role}", {"id": name})
            print(f"{role} is served by {done['ref']} from now on; open streams finish on theirs")
            return FINE
        return _choose(owner, role, name)


def _rollback(args: argparse.Namespace) -> int:
    if args.role not in ROLES:
        complain(f"{args.role!r} is not a role; roles are {', '.join(ROLES)}")
        return USAGE
    role = cast(Role, args.role)
    with changing(config_from(args)) as owner:
        if isinstance(owner, Daemon):
            done = owner.post(f"/api/v1/models/{role}/rollback")
            print(f"{role} is served by {done['ref']} again")
            return FINE
        return _choose(owner, role, owner.previous(role))


def _choose(store: ModelStore, role: Role, name: str) -> int:
    """Without a daemon: prove the model at all levels, then record the choice."""
    if name == NO_MODEL:
        if role != "punctuation":
            raise UnknownModel(f"{role} can't be without a model; only punctuation can")
    else:
        store.prove_for(role, name)
    ref = store.choose(role, name)
    print(f"{role}: {ref} serves from the next start on")
    return FINE


def _remove(args: argparse.Namespace) -> int:
    parse_ref(args.id)
    with changing(config_from(args)) as owner:
        if isinstance(owner, Daemon):
            removed = owner.delete(f"/api/v1/models/{args.id}")["removed"]
        else:
            removed = owner.remove(args.id)
    print(f"removed {removed}")
    sys.stdout.flush()
    return FINE
