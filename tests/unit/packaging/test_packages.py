"""What the packages hold and what they depend on, seen through dpkg-deb."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.deb import __main__ as build
from scripts.deb import trees
from scripts.deb.control import PYTHONS, Target, agent_fields, control_text, runtime_fields
from scripts.deb.wheels import requirements
from tests.unit.packaging.elves import elf

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is missing")
TARGET = Target((3, 11), "arm64")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Libraries as an installer lays them out."""
    folder = tmp_path / "wheels"
    for name in ("numpy/core.so", "onnxruntime/capi/ort.so"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(elf())
    (folder / "onnxruntime-1.32.0.dist-info").mkdir()
    (folder / "onnxruntime-1.32.0.dist-info" / "METADATA").write_text("Name: onnxruntime\n")
    return folder


def test_one_runtime_is_installed_and_it_is_of_the_agents_version() -> None:
    agent = agent_fields("0.1.0", 1)
    assert "funasr-agent-runtime (= 0.1.0)" in agent["Depends"]
    for python in PYTHONS:
        fields = runtime_fields(Target(python, "amd64"), "0.1.0", 1)
        assert fields["Provides"] == "funasr-agent-runtime (= 0.1.0)"
        assert fields["Conflicts"] == "funasr-agent-runtime"


def test_a_runtime_is_bound_to_its_python() -> None:
    fields = runtime_fields(Target((3, 13), "arm64"), "0.1.0", 1)
    assert fields["Package"] == "funasr-agent-runtime-cp313"
    assert fields["Architecture"] == "arm64"
    assert fields["Depends"].startswith("python3 (>= 3.13), python3 (<< 3.14), python3.13, ")


def test_the_microphone_is_recommended_and_not_needed() -> None:
    fields = agent_fields("0.1.0", 1)
    assert "python3-pyaudio" in fields["Recommends"]
    assert "pyaudio" not in fields["Depends"]


def test_control_text_has_a_line_a_field_and_indented_continuations() -> None:
    text = control_text(agent_fields("0.1.0", 12))
    assert "Installed-Size: 12\n" in text
    for line in text.splitlines():
        assert line.startswith(" ") or ": " in line


def test_requirements_are_those_of_the_agent_without_extras() -> None:
    names = " ".join(requirements())
    assert "onnxruntime" in names
    assert "pytest" not in names
    assert "torch" not in names


def test_onnx_runtime_lies_apart_and_the_environment_finds_it_by_a_link(
    tmp_path: Path, wheels: Path
) -> None:
    tree = tmp_path / "tree"
    trees.lay_out_runtime(TARGET, wheels, tree)
    lib = tree / trees.LIB
    site = lib / "env/lib/python3.11/site-packages"
    names = sorted(p.name for p in (lib / "runtime-cpu").iterdir())
    assert names == ["onnxruntime", "onnxruntime-1.32.0.dist-info"]
    assert not list(site.glob("onnxruntime*"))
    assert (site / "funasr-agent.pth").read_text().split() == [
        "/usr/lib/funasr-agent/onnxruntime",
        "/usr/lib/funasr-agent",
    ]
    assert (lib / "env/bin/python3").readlink() == Path("/usr/bin/python3.11")
    assert not (lib / trees.RUNTIME_LINK).exists()


def test_pyaudio_alone_is_taken_from_the_system() -> None:
    assert trees.pyaudio_links(Target((3, 10), "arm64")) == {
        "pyaudio.py": "/usr/lib/python3/dist-packages/pyaudio.py",
        "_portaudio.cpython-310-aarch64-linux-gnu.so": "/usr/lib/python3/dist-packages/"
        "_portaudio.cpython-310-aarch64-linux-gnu.so",
    }
    assert trees.pyaudio_links(Target((3, 13), "amd64")) == {
        "pyaudio": "/usr/lib/python3/dist-packages/pyaudio"
    }


@pytest.fixture
def units(tmp_path: Path, root: Path) -> Path:
    """A checkout with units of every kind."""
    source = tmp_path / "checkout"
    (source / "systemd" / "funasr-agent.service.d").mkdir(parents=True)
    (source / "systemd" / "funasr-agent.service").write_text("[Service]\n\n[Install]\n")
    (source / "systemd" / "verify.service").write_text("[Service]\n")
    (source / "systemd" / "verify.timer").write_text("[Timer]\n[Install]\n")
    (source / "systemd" / "README.md").write_text("no unit\n")
    (source / "systemd" / "funasr-agent.service.d" / "gpu.conf").write_text("[Service]\n")
    for name in ("sysusers", "tmpfiles", "jetson"):
        (source / "systemd" / f"{name}.conf").write_text(f"{name}\n")
    (source / "models").mkdir()
    shutil.copyfile(root / "config.yaml", source / "config.yaml")
    return source


def test_units_are_packaged_and_those_with_an_install_section_enabled(
    tmp_path: Path, units: Path
) -> None:
    tree = tmp_path / "tree"
    enabled = trees.lay_out_agent(units, tree)
    assert enabled == ["funasr-agent.service", "verify.timer"]
    names = {p.name for p in (tree / trees.UNITS).rglob("*") if p.is_file()}
    assert names == {"funasr-agent.service", "verify.service", "verify.timer", "gpu.conf"}
    assert not (tree / "lib").exists()
    for name in ("sysusers", "tmpfiles"):
        assert (tree / f"usr/lib/{name}.d/funasr-agent.conf").read_text() == f"{name}\n"
    assert (tree / trees.LIB / "jetson.conf").read_text() == "jetson\n"


@needs_dpkg
def test_a_package_is_read_by_dpkg_with_its_conffile_and_owners(
    tmp_path: Path, units: Path
) -> None:
    tree = tmp_path / "tree"
    enabled = trees.lay_out_agent(units, tree)
    fields = control_text(agent_fields("0.1.0", 7))
    trees.add_control(tree, fields, "agent", {"UNITS": " ".join(enabled)})
    args = argparse.Namespace(output=tmp_path, compress="zstd")
    package = build._pack(tree, "agent.deb", args)
    shown = subprocess.check_output(["dpkg-deb", "-I", package, "conffiles"], text=True)
    assert shown == "/etc/funasr-agent/config.yaml\n"
    listed = subprocess.check_output(["dpkg-deb", "-c", package], text=True)
    assert "-rwxr-xr-x root/root" in next(
        line for line in listed.splitlines() if line.endswith("./usr/bin/funasr-agent")
    )
    script = subprocess.check_output(["dpkg-deb", "-I", package, "postinst"], text=True)
    assert "for unit in funasr-agent.service verify.timer; do" in script


@needs_dpkg
def test_equal_sources_give_equal_packages(tmp_path: Path, wheels: Path) -> None:
    made = []
    for name in ("a", "b"):
        tree = tmp_path / name
        trees.lay_out_runtime(TARGET, wheels, tree)
        fields = control_text(runtime_fields(TARGET, "0.1.0", trees.size_kb(tree)))
        trees.add_control(tree, fields, "runtime", {"TAG": TARGET.tag})
        args = argparse.Namespace(output=tmp_path, compress="xz")
        made.append(build._pack(tree, f"{name}.deb", args).read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "script", sorted(p.name for p in (Path(trees.__file__).parent / "maintainer").iterdir())
)
def test_maintainer_scripts_are_plain_shell(script: str) -> None:
    text = (Path(trees.__file__).parent / "maintainer" / script).read_text(encoding="utf-8")
    filled = text.replace("@UNITS@", "a.service b.timer").replace("@TAG@", "cp311")
    assert "@" not in filled
    assert text.startswith("#!/bin/sh\n")
    assert "set -e" in text
    subprocess.run(["sh", "-n"], input=filled, text=True, check=True)
