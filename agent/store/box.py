"""What of this box decides how a model runs here; nothing native is loaded to find it out."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from agent import __version__
from agent.errors import CompatibilityError

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
"""Distributions that bring the package `onnxruntime`; at most one may be installed."""
_GPU_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvmap")
_DRIVER = Path("/proc/driver/nvidia/version")
_TEGRA = Path("/etc/nv_tegra_release")


def installed_runtimes() -> dict[str, str]:
    """Name -> version of every installed distribution of ONNX Runtime."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def has_gpu() -> bool:
    """Whether there is a sign of an NVIDIA GPU."""
    return any(Path(sign).exists() for sign in _GPU_SIGNS)


def fingerprint() -> dict[str, str]:
    """What must be the same for a proof made on this box to count still."""
    runtimes = installed_runtimes()
    return {
        "agent": __version__,
        "onnxruntime": ", ".join(f"{name} {version}" for name, version in runtimes.items()),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "gpu": _gpu(),
    }


def require_runtime(wanted: str, versions: Mapping[str, str] | None = None) -> None:
    """Raises CompatibilityError unless the installed ONNX Runtime is one of `wanted`.

    `wanted` is a version specifier such as `>=1.17`; empty: any.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    if not wanted:
        return
    try:
        allowed = SpecifierSet(wanted, prereleases=True)
    except InvalidSpecifier:
        raise CompatibilityError(
            f"requires.onnxruntime is {wanted!r}, which is no version such as >=1.17",
            file="manifest.yaml",
        ) from None
    for name, version in (installed_runtimes() if versions is None else versions).items():
        try:
            fits = Version(version) in allowed
        except InvalidVersion:
            continue
        if not fits:
            raise CompatibilityError(
                f"it needs ONNX Runtime {wanted}, {name} {version} is installed; install a "
                "fitting one, or a model made for this one"
            )


def _cpu() -> str:
    """Model and a digest of the feature flags of the first core."""
    wanted = {"model name", "flags", "Features", "CPU part", "CPU implementer"}
    lines: list[str] = []
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if not line.strip() and lines:
            break
        if line.partition(":")[0].strip() in wanted:
            lines.append(line)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    name = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    return f"{name or platform.machine()} {digest}"


def _gpu() -> str:
    if not has_gpu():
        return ""
    for path in (_TEGRA, _DRIVER):
        if first := _read(path).partition("\n")[0].strip():
            return first
    return "present"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
