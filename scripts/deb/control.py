"""The control fields of the packages, and which Python and architecture they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AGENT = "funasr-agent"
RUNTIME = "funasr-agent-runtime"
"""Virtual: provided by the package for each Python, one of which is installed."""
ARCHITECTURES = ("amd64", "arm64")
PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))
"""Ubuntu 22.04 and JetPack 6; Debian 12; Ubuntu 24.04 and JetPack 7; Debian 13. Raspberry Pi OS
has the Python of the Debian that it is made from."""
GLIBC = "2.28"
"""Of the wheels: manylinux_2_28."""
MAINTAINER = "funasr-agent maintainers <root@localhost>"


@dataclass(frozen=True)
class Target:
    """What a runtime package is made for."""

    python: tuple[int, int]
    architecture: str
    """As Debian calls it."""

    @property
    def tag(self) -> str:
        """`cp311`."""
        return "cp" + "".join(map(str, self.python))

    @property
    def version(self) -> str:
        """`3.11`."""
        return ".".join(map(str, self.python))

    @property
    def package(self) -> str:
        """Name of the package."""
        return f"{RUNTIME}-{self.tag}"

    @property
    def triplet(self) -> str:
        """As it stands in the file names of extension modules."""
        machine = {"amd64": "x86_64", "arm64": "aarch64"}[self.architecture]
        return f"cpython-{self.tag.removeprefix('cp')}-{machine}-linux-gnu"

    @property
    def platform(self) -> str:
        """As uv names it."""
        machine = {"amd64": "x86_64", "arm64": "aarch64"}[self.architecture]
        return f"{machine}-manylinux_{GLIBC.replace('.', '_')}"


def agent_fields(version: str, installed_kb: int) -> dict[str, str]:
    """Of the package with code, models and unit."""
    return _common(AGENT, version, "all", installed_kb) | {
        "Depends": f"{RUNTIME} (= {version}), passwd",
        # Everything but the box's own microphone works without these.
        "Recommends": "python3-pyaudio, alsa-utils, systemd",
        "Suggests": "avahi-daemon",
        "Description": "offline speech-to-text appliance for FunASR's models\n"
        " A daemon with a page of its own that writes down speech without any network:\n"
        " FunASR's WebSocket protocol, OpenAI's audio API, built-in models for Mandarin and\n"
        " English commands and digits, verified installation of larger ones.",
    }


def runtime_fields(target: Target, version: str, installed_kb: int) -> dict[str, str]:
    """Of the package with the libraries for one Python."""
    major, minor = target.python
    return _common(target.package, version, target.architecture, installed_kb) | {
        "Depends": f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1}), "
        f"python{target.version}, libc6 (>= {GLIBC}), libstdc++6, libgcc-s1",
        "Provides": f"{RUNTIME} (= {version})",
        "Conflicts": RUNTIME,
        "Replaces": RUNTIME,
        "Description": f"libraries of funasr-agent for Python {target.version}\n"
        " ONNX Runtime, numpy and what else the agent needs, apart from those of the system.\n"
        " One package for each Python; the system's python3 decides which one fits.",
    }


def control_text(fields: Mapping[str, str]) -> str:
    """The file DEBIAN/control."""
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _common(name: str, version: str, architecture: str, installed_kb: int) -> dict[str, str]:
    return {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": MAINTAINER,
        "Section": "sound",
        "Priority": "optional",
        "Installed-Size": str(installed_kb),
    }
