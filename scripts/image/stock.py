"""Makes a folder for the boot partition of a vendor's own system, which installs the agent from it.

For boards whose hardware Debian's kernel lacks (Raspberry Pi 5) and any other Debian or Ubuntu.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.image import appliance
from scripts.image.commands import say

FOLDER = "funasr-agent"
SCRIPT = "first-boot.sh"
FILES = {
    "config.yaml": "etc/funasr-agent/config.yaml",
    "avahi.service": "etc/avahi/services/funasr-agent.service",
}
"""Name in the folder, which FAT keeps flat and short -> place below the root; first-boot.sh has
the same list."""


def lay_out(packages: Path, defaults: str, output: Path) -> Path:
    """The folder, made in `output`. `defaults` is the checkout's config.yaml."""
    found = sorted(packages.glob("funasr-agent*.deb"))
    agents = [path for path in found if path.name.startswith("funasr-agent_")]
    if len(agents) != 1 or len(found) < 2:
        raise RuntimeError(
            f"{packages}: one package of the agent and at least one runtime are needed; "
            "make them with scripts/build-deb --arch arm64"
        )
    folder = output / FOLDER
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for path in found:
        shutil.copyfile(path, folder / path.name)
    contents = {
        "config.yaml": appliance.agent_config(defaults),
        "avahi.service": appliance.AVAHI_SERVICE,
        SCRIPT: (Path(__file__).parent / "device" / SCRIPT).read_text(encoding="utf-8"),
    }
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    )
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the folder is there."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(prog="scripts/build-image --board stock", description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, default=root / "build/image", metavar="DIR")
    args = parser.parse_args(arguments)
    try:
        defaults = (root / "config.yaml").read_text(encoding="utf-8")
        folder = lay_out(args.packages, defaults, args.output)
    except (RuntimeError, OSError) as error:
        print(f"build-image: {error}", file=sys.stderr)
        return 1
    say(f"{folder}: copy it onto the boot partition; docs/image.md says how it is started")
    return 0


if __name__ == "__main__":
    sys.exit(main())
