"""Lays out what a package holds, as it will lie on the device."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from scripts.deb.conffile import device_config
from scripts.deb.control import AGENT, Target
from scripts.deb.wheels import ONNXRUNTIME

LIB = Path("usr/lib/funasr-agent")
CPU_RUNTIME = "runtime-cpu"
RUNTIME_LINK = "onnxruntime"
"""In LIB, made at installation: leads to the runtime in use, and is switched by one rename."""
UNITS = Path("usr/lib/systemd/system")
"""Not /lib: unpacked over a merged /usr it would replace the link."""
CONFFILE = Path("etc/funasr-agent/config.yaml")
_SCRIPTS = Path(__file__).parent / "maintainer"
_UNIT_KINDS = (".service", ".socket", ".timer", ".path", ".target")
_SETTINGS = {
    "sysusers.conf": "usr/lib/sysusers.d/funasr-agent.conf",
    "tmpfiles.conf": "usr/lib/tmpfiles.d/funasr-agent.conf",
    # Linked into the unit's drop-ins at installation, where the system is a Jetson's.
    "jetson.conf": LIB / "jetson.conf",
}
_COMMAND = """\
#!/bin/sh
# -I: neither the folder it is called in nor a user's own libraries are looked at.
export ORT_DISABLE_TELEMETRY=1
exec /usr/lib/funasr-agent/env/bin/python3 -I -m agent "$@"
"""


def lay_out_agent(root: Path, tree: Path) -> list[str]:
    """Everything of the agent's package but its code; the names of the units to enable.

    `root` is the checkout.
    """
    shutil.copytree(root / "models", tree / LIB / "models")
    _write(tree / "usr/bin/funasr-agent", _COMMAND, 0o755)
    config = (root / "config.yaml").read_text(encoding="utf-8")
    _write(tree / CONFFILE, device_config(config))
    return _lay_out_units(root / "systemd", tree)


def lay_out_runtime(target: Target, wheels: Path, tree: Path) -> None:
    """The libraries in `wheels` as an environment of their own, ONNX Runtime apart from them."""
    lib = tree / LIB
    site = lib / "env/lib" / f"python{target.version}" / "site-packages"
    site.parent.mkdir(parents=True)
    shutil.copytree(wheels, site)
    cpu = lib / CPU_RUNTIME
    cpu.mkdir()
    for pattern in ONNXRUNTIME:
        for path in sorted(site.glob(pattern)):
            path.rename(cpu / path.name)
    _write(site / "funasr-agent.pth", f"/{LIB / RUNTIME_LINK}\n/{LIB}\n")
    for name, where in pyaudio_links(target).items():
        (site / name).symlink_to(where)
    _write(
        lib / "env/pyvenv.cfg",
        "home = /usr/bin\ninclude-system-site-packages = false\n"
        f"version = {target.version}\nexecutable = /usr/bin/python{target.version}\n",
    )
    (lib / "env/bin").mkdir()
    (lib / "env/bin/python3").symlink_to(f"/usr/bin/python{target.version}")


def pyaudio_links(target: Target) -> Mapping[str, str]:
    """PyAudio is the system's, since it has no wheels; nothing else of the system gets in.

    python3-pyaudio 0.2.11 (Ubuntu 22.04) is a module with a library beside it, from 0.2.13 it
    is a package. The links lead nowhere while it is not installed.
    """
    library = f"_portaudio.{target.triplet}.so"
    names = ("pyaudio.py", library) if target.python < (3, 11) else ("pyaudio",)
    return {name: f"/usr/lib/python3/dist-packages/{name}" for name in names}


def add_control(tree: Path, control: str, scripts: str, values: Mapping[str, str]) -> None:
    """DEBIAN/: the control file, the maintainer scripts `scripts`.* with @NAME@ filled in."""
    folder = tree / "DEBIAN"
    _write(folder / "control", control)
    for source in sorted(_SCRIPTS.glob(f"{scripts}.*")):
        text = source.read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        _write(folder / source.suffix[1:], text, 0o755)
    if (tree / CONFFILE).exists():
        _write(folder / "conffiles", f"/{CONFFILE}\n")


def add_documentation(root: Path, tree: Path, package: str) -> None:
    """The copyright file that every package has, and with the agent its README."""
    doc = tree / "usr/share/doc" / package
    notice = "funasr-agent is licensed under the Apache License, version 2.0;\n"
    notice += "see /usr/share/common-licenses/Apache-2.0. The libraries of the runtime packages\n"
    notice += "carry their licences in their *.dist-info folders, the models in their manifests.\n"
    _write(doc / "copyright", notice)
    if package == AGENT:
        shutil.copyfile(root / "README.md", doc / "README.md")


def settle(tree: Path, epoch_s: int) -> None:
    """Modes and times that don't depend on who builds when, so that builds can be compared."""
    for folder, folders, files in os.walk(tree):
        for name in [*folders, *files]:
            path = Path(folder) / name
            if not path.is_symlink():
                runs = path.is_dir() or bool(path.stat().st_mode & 0o100)
                path.chmod(0o755 if runs else 0o644)
            os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)
    tree.chmod(0o755)


def size_kb(tree: Path) -> int:
    """What the files below take, in KiB, each rounded up as Debian counts them."""
    return sum(
        (path.lstat().st_size + 1023) // 1024 if path.is_file() and not path.is_symlink() else 1
        for path in tree.rglob("*")
        if "DEBIAN" not in path.relative_to(tree).parts
    )


def _lay_out_units(source: Path, tree: Path) -> list[str]:
    """Units, their drop-ins (`NAME.service.d/`) and the other settings of systemd; the names of
    the units that have an [Install] section."""
    enabled = []
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        if path.suffix == ".d" and path.is_dir():
            shutil.copytree(path, tree / UNITS / path.name)
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix in _UNIT_KINDS:
            _write(tree / UNITS / path.name, text)
            if "[Install]" in text.splitlines() and "@" not in path.name:
                enabled.append(path.name)
        elif path.name in _SETTINGS:
            _write(tree / _SETTINGS[path.name], text)
    return enabled


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
