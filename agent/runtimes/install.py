"""Installs a runtime in place of the one in use: checked, proven aside, put, proven again."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.errors import AgentError, StoreBusy
from agent.runtimes.places import Installed, Place
from agent.runtimes.proof import Proof, Prove
from agent.runtimes.wheel import Here, RuntimeRefused, check_wheel, unpack

Say = Callable[[str], None]
DOWNLOAD_LIMIT_S = 3600.0
PROJECT = "onnxruntime-gpu"
_SYSTEM_PYTHON = "/usr/bin/python3"
_CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def install_runtime(path: Path, place: Place, here: Here, prove: Prove, say: Say) -> Installed:
    """Put the wheel's runtime in the place of the one in use.

    `prove` decides whether it works, once where it was unpacked and once where it is used.
    Raises RuntimeRefused, with the former runtime in use; AgentError without rights.
    """
    wheel = check_wheel(path, here)
    with _changing(place):
        staged = place.stage()
        try:
            say(f"unpacking {wheel.name} {wheel.version}")
            unpack(wheel, staged)
            say("trying it in a process of its own")
            _require(prove(staged), staged, path)
        except BaseException:
            shutil.rmtree(staged)
            raise
        place.put(staged)
        try:
            _require(prove(None), None, path)
        except BaseException:
            place.back()
            raise
        place.settle()
        return place.installed()


def remove_runtime(place: Place) -> bool:
    """The runtime that came with the agent is in use again; False when it already was."""
    with _changing(place):
        if not place.installed().replaced:
            return False
        place.restore()
        return True


@contextmanager
def downloaded(index_url: str, version: str = "") -> Iterator[Path]:
    """The newest fitting wheel of that one index, deleted afterwards. Raises AgentError.

    The machine's own settings for pip are not read: an extra index there would offer the build
    for the CPU, and pip prefers whichever is newer.
    """
    with tempfile.TemporaryDirectory(prefix="funasr-agent-gpu-") as folder:
        command = [*_pip(), "download", "--isolated", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--index-url", index_url]
        command += ["--dest", folder, f"{PROJECT}=={version}" if version else PROJECT]
        cert = next((os.environ[name] for name in _CERTIFICATES if os.environ.get(name)), "")
        if cert:
            command += ["--cert", cert]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                timeout=DOWNLOAD_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeRefused(f"{index_url}: the download takes over an hour") from None
        found = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not found:
            raise RuntimeRefused(
                f"{index_url}: no {PROJECT} for this Python could be downloaded; "
                "the lines above say why, or give the file with --wheel"
            )
        yield found[0]


def _pip() -> Sequence[str]:
    """The package's environment has none; the system's downloads for the same Python."""
    for python in (sys.executable, _SYSTEM_PYTHON):
        probe = [python, "-m", "pip", "--version"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return [python, "-m", "pip"]
    raise AgentError(
        "pip is missing, which downloads the wheel; install it with apt install python3-pip, or "
        "download the wheel on another machine and give it with --wheel"
    )


def _require(proof: Proof, folder: Path | None, path: Path) -> None:
    if proof.reason:
        raise RuntimeRefused(f"{path}: {proof.reason}; the former runtime stays in use")
    if folder is not None and proof.folder != folder:
        raise RuntimeRefused(f"{path}: {proof.folder} was imported in place of the wheel's module")


@contextmanager
def _changing(place: Place) -> Iterator[None]:
    """One process at a time; what an earlier one left undone is completed first."""
    try:
        file = os.open(place.root, os.O_RDONLY)
    except OSError as error:
        raise AgentError(f"{place.root}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.recover()
        yield
    except BlockingIOError:
        raise StoreBusy(f"another process is changing the runtime in {place.root}") from None
    except OSError as error:
        advice = {
            errno.EACCES: "run it as root, or as the owner of the environment",
            errno.EROFS: "the file system is mounted read-only",
            errno.ENOSPC: "make room on the disk",
        }.get(error.errno or 0, "the former runtime stays in use")
        where = error.filename2 or error.filename or place.root
        raise AgentError(f"{where}: {error.strerror or error}; {advice}") from None
    finally:
        os.close(file)
