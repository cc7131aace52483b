"""A stage's tree: its instructions done in a chroot, and a process run in it as an engine would."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.containers.dockerfile import Stage, command_of, expand, pairs_of

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RESOLVER = "/etc/resolv.conf"
"""Of the machine, put over the tree's while it is built."""
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""Of the machine, lent to the steps beside the tree's own: a package writes that one."""
_LENT = "/dev/machine-certificates.crt"
_APT = "/dev/machine-apt.conf"
_MOUNT = """
set -e
mount -t proc proc "$0/proc"
mount -t tmpfs -o mode=755 tmpfs "$0/dev"
for node in null zero full random urandom; do cp -a "/dev/$node" "$0/dev"; done
mkdir "$0/dev/shm" && mount -t tmpfs -o mode=1777 tmpfs "$0/dev/shm"
ln -s /proc/self/fd "$0/dev/fd"
"""


class StepFailed(Exception):
    """An instruction that can't be done, with what it said."""


@dataclass
class Tree:
    """A folder with a system in it, and the settings that instructions have made so far."""

    folder: Path
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    workdir: str = "/"
    user: str = ""


def build(
    stage: Stage,
    tree: Tree,
    context: Path,
    others: Mapping[str, Path],
    arguments: Mapping[str, str],
) -> None:
    """Do the instructions of `stage`. `others` are the folders of earlier stages by name.

    Raises StepFailed.
    """
    given: dict[str, str] = {}
    for name, rest in stage.instructions:
        if name == "ARG":
            key, _, default = rest.partition("=")
            if key in arguments or default:
                given[key] = arguments.get(key, default)
        elif name == "ENV":
            tree.environ |= pairs_of(expand(rest, given | tree.environ))
        elif name == "SHELL":
            tree.shell = command_of(rest, [])
        elif name == "USER":
            tree.user = rest
        elif name == "WORKDIR":
            tree.workdir = rest
            (tree.folder / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            _copy(tree, rest, context, others)
        elif name == "RUN":
            print(f"   RUN {rest[:90]}...", flush=True)
            _run(tree, command_of(rest, tree.shell), given | arguments_of_pip())
        elif name not in ("VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"):
            raise StepFailed(f"{name} is not known here")


def arguments_of_pip() -> dict[str, str]:
    """pip's index of this machine, as variables of the steps."""
    names = {"PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT"}
    return {name: value for name, value in os.environ.items() if name in names}


def contained(
    tree: Tree, command: Sequence[str], state: Path, environ: Mapping[str, str], user: str
) -> list[str]:
    """A command line that runs `command` in the tree as docker/compose.yaml says: a read-only
    root, /tmp and /run/funasr-agent in memory, `state` as the volume, no rights, no network."""
    mounts = _MOUNT + (
        'mount --bind "$1" "$0/var/lib/funasr-agent"\n'
        'mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"\n'
        f'mount -t tmpfs -o mode=750,uid={user},gid={user} tmpfs "$0/run/funasr-agent"\n'
        'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"\n'
        "ip link set lo up\n"
    )
    drop = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"]
    drop += ["--bounding-set", "-all", "--inh-caps", "-all"]
    values = [f"{key}={value}" for key, value in {**tree.environ, **environ}.items()]
    inside = shlex.join([*drop, "env", "-i", *values, *command])
    # The binds above lie under the root's own bind mount, which is entered anew to see them all.
    script = mounts.replace('mount --bind "$0" "$0"; ', 'mount --rbind "$0" "$0"; cd "$0"; ')
    script = script.replace('remount,bind,ro "$0"', "remount,bind,ro .")
    script += f"exec chroot . /bin/sh -c {shlex.quote(f'cd {tree.workdir}; exec {inside}')}\n"
    return ["unshare", "--mount", "--net", "bash", "-c", script, str(tree.folder), str(state)]


def _run(tree: Tree, command: Sequence[str], more: Mapping[str, str]) -> None:
    environ, lends = {**tree.environ, **more}, ""
    if Path(_RESOLVER).exists():
        (tree.folder / _RESOLVER.lstrip("/")).touch()
        lends += f'mount --bind {_RESOLVER} "$0{_RESOLVER}"\n'
    certificates = os.environ.get("PIP_CERT", _CERTIFICATES)
    if Path(certificates).exists():
        option = f'Acquire::https::CaInfo "{_LENT}";'
        lends += f'cp {shlex.quote(certificates)} "$0{_LENT}"\n'
        lends += f'echo {shlex.quote(option)} >"$0{_APT}"\n'
        environ |= {"PIP_CERT": _LENT, "APT_CONFIG": _APT}
    values = [f"{key}={value}" for key, value in environ.items()]
    inside = shlex.join(["env", "-i", *values, *command])
    inner = shlex.quote(f"cd {tree.workdir}; exec {inside}")
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", f'{_MOUNT}{lends}exec chroot "$0" /bin/sh -c {inner}',
         str(tree.folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise StepFailed(f"exit code {done.returncode}:\n{done.stdout[-4000:]}")


def _copy(tree: Tree, rest: str, context: Path, others: Mapping[str, Path]) -> None:
    words = rest.split()
    source = context
    if words[0].startswith("--from="):
        source = others[words.pop(0).removeprefix("--from=")]
    *names, target = words
    place = tree.folder / (Path(tree.workdir) / target).as_posix().lstrip("/")
    for name in names:
        path = source / name.lstrip("/")
        if path.is_dir():  # its content, as an engine copies it
            shutil.copytree(path, place, symlinks=True, dirs_exist_ok=True)
        elif target.endswith("/") or len(names) > 1:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place / path.name)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)
