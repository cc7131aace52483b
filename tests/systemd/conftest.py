"""The booted box, made once for the tests of this folder; they are skipped where it can't be."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.box import ROOT, Box, base_tree
from tests.systemd.service import Service

_TOOLS = ("systemd-nspawn", "mmdebstrap", "unshare", "nsenter")
SWITCH = "FUNASR_AGENT_TEST_SYSTEMD"
"""1: run; 0: don't; unset: run where a tree has been made before."""
TREES = ROOT / "build/systemd"


def why_not() -> str:
    """Why no box can be booted here; empty when one can."""
    wanted = os.environ.get(SWITCH, "")
    if wanted == "0":
        return f"{SWITCH}=0"
    if not wanted and not TREES.is_dir():
        return "no Debian tree has been made here yet: ./scripts/test-systemd makes one and tests"
    if os.geteuid() != 0:
        return "only root can boot a box"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def free_port(lowest: int) -> int:
    """A port of this machine that nobody uses; the box shares its network."""
    for port in range(lowest, lowest + 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port is free from {lowest} on")


def packages() -> list[Path]:
    """The packages to install, where scripts/test-systemd has built them."""
    folder = os.environ.get("FUNASR_AGENT_TEST_DEBS", "")
    return sorted((ROOT / folder).glob("*.deb")) if folder else []


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Booted, with the agent installed and not started."""
    if reason := why_not():
        pytest.skip(reason)
    made = Box(tmp_path_factory.mktemp("systemd") / "box", base_tree(TREES))
    made.installed = made.install(packages())
    try:
        made.boot_s = made.boot()
        yield made
    finally:
        made.power_off()
        shutil.rmtree(made.tree, ignore_errors=True)


@pytest.fixture(scope="session")
def _service(box: Box) -> Service:
    made = Service(box, free_port(18080), free_port(800))
    # A package's own start came with the boot, on the package's ports.
    box.run("systemctl stop funasr-agent", check=False)
    made.configure()
    made.start_s = made.start()
    return made


@pytest.fixture
def service(_service: Service) -> Iterator[Service]:
    """The running service; put back into order after a test that failed."""
    yield _service
    _service.configure()
    if _service.box.show("ActiveState") != "active":
        _service.start()
