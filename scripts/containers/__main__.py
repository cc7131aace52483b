"""`scripts/test-container`: does the steps of a Dockerfile in chroots, runs what came of it."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from scripts.containers.dockerfile import command_of, read_dockerfile
from scripts.containers.tree import StepFailed, Tree, build, contained

ROOT = Path(__file__).resolve().parents[2]
HEALTHY_S = 180.0
STOP_S = 45.0
_IGNORED = shutil.ignore_patterns("__pycache__")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the container was built, got healthy, recognised a clip and stopped cleanly."""
    parser = argparse.ArgumentParser(prog="scripts/test-container", description=__doc__)
    parser.add_argument("file", type=Path, help="the Dockerfile")
    parser.add_argument("service", help="its service in docker/compose.yaml")
    parser.add_argument("--base", action="append", default=[], metavar="IMAGE=TAR", required=True)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--runtime", default="onnxruntime", help="that must be in use")
    parser.add_argument("--wheel", type=Path, help="put into docker/wheels of the context")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="container-", dir=ROOT / "build") as scratch:
        try:
            tree, health, command = _build(args, Path(scratch))
            _try(args, tree, health, command, Path(scratch))
        except StepFailed as error:
            print(f"test-container: {args.file}: {error}", file=sys.stderr)
            return 1
    print(f"{args.file}: built, healthy, a clip recognised, stopped")
    return 0


def _build(args: argparse.Namespace, scratch: Path) -> tuple[Tree, list[str], list[str]]:
    """The last stage's tree, the health check's command, and the container's."""
    context = _context(scratch / "context", args.wheel)
    bases = dict(item.split("=", 1) for item in args.base)
    given = dict(item.split("=", 1) for item in args.build_arg)
    stages = read_dockerfile(args.file, given)
    folders: dict[str, Path] = {}
    for i, stage in enumerate(stages):
        print(f"FROM {stage.image}", flush=True)
        tree = Tree(scratch / f"stage-{i}")
        tree.folder.mkdir()
        subprocess.run(["tar", "-C", tree.folder, "-xf", bases[stage.image]], check=True)
        build(stage, tree, context, folders, given)
        folders[stage.name or str(i)] = tree.folder
    health = re.sub(r"^(--\S+\s+)*CMD\s+", "", stages[-1].last("HEALTHCHECK"))
    command = command_of(stages[-1].last("ENTRYPOINT"), [])
    return tree, command_of(health, ["/bin/sh", "-c"]), command


def _context(folder: Path, wheel: Path | None) -> Path:
    """What .dockerignore leaves of the checkout."""
    for name in re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_IGNORED)
        else:
            shutil.copy2(source, target)
    if wheel is not None:
        shutil.copy2(wheel, folder / "docker" / "wheels")
    return folder


def _try(
    args: argparse.Namespace, tree: Tree, health: list[str], command: list[str], scratch: Path
) -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    service = compose["services"][args.service]
    if str(service["user"]) != tree.user:
        raise StepFailed(f"compose runs it as {service['user']}, the image as {tree.user}")
    state = scratch / "state"
    state.mkdir(mode=0o750)
    os.chown(state, int(tree.user), int(tree.user))
    clip = tree.folder / "srv" / "clip.wav"
    shutil.copyfile(ROOT / "tests" / "data" / "clips" / "zh-1.wav", clip)
    environ = {str(key): str(value) for key, value in service["environment"].items()}
    with (scratch / "log").open("w+") as log:
        daemon = subprocess.Popen(
            contained(tree, [*command, "serve"], state, environ, tree.user),
            stdout=log,
            stderr=log,
        )
        try:
            _check(tree, daemon, health, command)
            done = _inside(tree, daemon, [*command, "gpu", "status"])
            if done.stdout.split()[:1] != [args.runtime]:
                raise StepFailed(f"its runtime is not {args.runtime}: {done.stdout}{done.stderr}")
            _stop(daemon)
        except StepFailed as error:
            log.seek(0)
            raise StepFailed(f"{error}\n{log.read()[-4000:]}") from None
        finally:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()


def _check(
    tree: Tree, daemon: subprocess.Popen[bytes], health: list[str], command: list[str]
) -> None:
    started = time.monotonic()
    while _inside(tree, daemon, health).returncode:
        if daemon.poll() is not None or time.monotonic() - started > HEALTHY_S:
            raise StepFailed("it did not get healthy; its log:")
        time.sleep(1)
    print(f"   healthy after {time.monotonic() - started:.0f} s", flush=True)
    done = _inside(tree, daemon, [*command, "transcribe", "/srv/clip.wav"])
    if "现在几点" not in done.stdout:
        raise StepFailed(f"it heard {done.stdout!r} {done.stderr}")
    for path in ("/opt/funasr-agent/x", "/etc/x", "/var/lib/x"):
        if _inside(tree, daemon, ["touch", path]).returncode == 0:
            raise StepFailed(f"{path} could be written")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        code = daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"it did not stop in {STOP_S:.0f} s") from None
    if code:
        raise StepFailed(f"it ended with {code} when it was stopped")


def _inside(
    tree: Tree, daemon: subprocess.Popen[bytes], command: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """A command beside the daemon, as an engine's `exec` runs it."""
    values = [f"{key}={value}" for key, value in tree.environ.items()]
    enter = ["nsenter", "--target", str(daemon.pid), "--mount", "--net", "--root", "--wd"]
    drop = ["setpriv", "--reuid", tree.user, "--regid", tree.user, "--clear-groups"]
    return subprocess.run(
        [*enter, *drop, "env", "-i", *values, *command], capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
