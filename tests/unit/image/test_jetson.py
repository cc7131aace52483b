"""The customiser of NVIDIA's tree, on a tree that is laid out like it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.image import jetson
from scripts.image.jetson import choose_packages, customise, inspect

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = (ROOT / "config.yaml").read_text(encoding="utf-8")
RELEASE = "# R{}, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Mon Jan  1 00:00:00 UTC 2026\n"
SIX, SEVEN = "36 (release), REVISION: 4.4", "38 (release), REVISION: 2.0"
SEVEN_TWO = "39 (release), REVISION: 2.0"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the tree's files belong to root")


def make_tree(path: Path, release: str = SIX, python: str = "python3.10") -> Path:
    """Linux_for_Tegra after apply_binaries.sh, as far as the customiser looks at it."""
    root = path / "Linux_for_Tegra/rootfs"
    for folder in ("usr/bin", "etc/ssh", "boot", "etc/systemd/system"):
        (root / folder).mkdir(parents=True)
    (root / "usr/bin/python3").symlink_to(python)
    (root / "etc/nv_tegra_release").write_text(RELEASE.format(release))
    (root / "etc/ssh/ssh_host_rsa_key").write_text("the same on every box\n")
    (root.parent / "flash.sh").touch()
    return root.parent


def make_packages(path: Path, *names: str) -> Path:
    folder = path / "deb"
    folder.mkdir()
    for name in names or (
        "funasr-agent_0.1.0_all.deb",
        "funasr-agent-runtime-cp310_0.1.0_arm64.deb",
        "funasr-agent-runtime-cp312_0.1.0_arm64.deb",
    ):
        (folder / name).touch()
    return folder


class Installer:
    """Notes what would be installed."""

    def __init__(self) -> None:
        self.installed: list[list[str]] = []
        self.names: list[str] = []

    def __call__(self, root: Path, packages: Sequence[Path], names: Sequence[str]) -> None:
        self.installed.append([path.name for path in packages])
        self.names += names


@pytest.mark.parametrize(
    ("release", "python", "tag"),
    [
        (SIX, "python3.10", "cp310"),
        (SEVEN, "python3.12", "cp312"),
        (SEVEN_TWO, "python3.12", "cp312"),
    ],
)
def test_the_runtime_fits_the_trees_python(
    tmp_path: Path, release: str, python: str, tag: str
) -> None:
    tree = inspect(make_tree(tmp_path, release, python))
    names = [path.name for path in choose_packages(tree, make_packages(tmp_path))]
    assert names == ["funasr-agent_0.1.0_all.deb", f"funasr-agent-runtime-{tag}_0.1.0_arm64.deb"]


def test_a_missing_runtime_is_told_with_the_way_to_get_it(tmp_path: Path) -> None:
    tree = inspect(make_tree(tmp_path))
    packages = make_packages(tmp_path, "funasr-agent_0.1.0_all.deb")
    with pytest.raises(RuntimeError, match=r"cp310_.*scripts/build-deb --arch arm64"):
        choose_packages(tree, packages)


def test_each_missing_step_of_nvidias_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no Linux_for_Tegra tree"):
        inspect(tmp_path)
    tree = make_tree(tmp_path)
    (tree / "rootfs/etc/nv_tegra_release").unlink()
    with pytest.raises(RuntimeError, match=r"apply_binaries\.sh"):
        inspect(tree)
    (tree / "rootfs/usr/bin/python3").unlink()
    (tree / "rootfs/usr/bin").rmdir()
    with pytest.raises(RuntimeError, match="sample root file system"):
        inspect(tree)


def test_a_release_that_was_never_looked_at_is_refused(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "35 (release), REVISION: 6.1")
    with pytest.raises(RuntimeError, match="not known here"):
        inspect(tree)


@needs_root
def test_the_tree_gets_the_appliance_and_keeps_what_is_nvidias(tmp_path: Path) -> None:
    path = make_tree(tmp_path)
    (path / "rootfs/etc/fstab").write_text("NVIDIA's\n")
    tree, install = inspect(path), Installer()
    customise(tree, choose_packages(tree, make_packages(tmp_path)), DEFAULTS, install)
    root = tree.root
    assert len(install.installed) == 1
    assert install.names == []
    assert (root / "etc/fstab").read_text() == "NVIDIA's\n"
    assert not (root / "etc/hostname").exists()
    assert "0.0.0.0" in (root / "etc/funasr-agent/config.yaml").read_text()
    assert not list(root.glob("etc/ssh/ssh_host_*"))
    settings = root / "boot/funasr-agent.txt"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    unit = (root / "usr/lib/systemd/system/funasr-image-settings.service").read_text()
    assert "/boot/funasr-agent.txt" in unit
    for name in ("etc/funasr-agent/config.yaml", "usr/lib/funasr-image/settings.py"):
        assert ((root / name).stat().st_uid, (root / name).stat().st_gid) == (0, 0)


@needs_root
def test_every_enabled_unit_is_there_and_the_disk_is_left_to_nvidia(tmp_path: Path) -> None:
    tree = inspect(make_tree(tmp_path))
    packages = choose_packages(tree, make_packages(tmp_path))
    customise(tree, packages, DEFAULTS, Installer())
    links = list((tree.root / "etc/systemd/system/multi-user.target.wants").iterdir())
    assert "funasr-image-grow.service" not in {link.name for link in links}
    for link in links:
        assert (tree.root / os.readlink(link).lstrip("/")).is_file(), link.name
    assert not (tree.root / "usr/lib/funasr-image/grow").exists()


@needs_root
def test_a_second_run_keeps_the_settings_of_the_first(tmp_path: Path) -> None:
    tree = inspect(make_tree(tmp_path))
    packages = choose_packages(tree, make_packages(tmp_path))
    mine = tmp_path / "mine.txt"
    mine.write_text("hostname = orin\n")
    customise(tree, packages, DEFAULTS, Installer(), settings=mine)
    install = Installer()
    customise(tree, packages, DEFAULTS, install, recommended=True)
    assert (tree.root / "boot/funasr-agent.txt").read_text() == "hostname = orin\n"
    assert install.names == list(jetson.RECOMMENDED)


def test_a_dry_run_tells_all_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path)
    before = sorted(tree.rglob("*"))
    packages = make_packages(tmp_path)
    arguments = ["--tree", str(tree), "--packages", str(packages), "--dry-run"]
    assert jetson.main(arguments) == 0
    told = capsys.readouterr().err
    assert "R36.4" in told
    assert "cp310" in told
    assert "etc/funasr-agent/config.yaml" in told
    assert sorted(tree.rglob("*")) == before


def test_a_bad_tree_ends_with_a_line_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jetson.main(["--tree", str(tmp_path), "--packages", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("build-image: ")
