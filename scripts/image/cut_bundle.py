"""A model bundle whose installation takes long enough to be cut off."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import yaml

from scripts.image.boards import MIB

CUT_ID = "cut-test"
PADDING_BYTES = 32 * MIB
"""So that the transfer of the model takes a while."""


def make_bundle(source: Path, work: Path) -> Path:
    """A bundle with a copy of the model in the folder `source` under another name, and padding."""
    manifest = yaml.safe_load((source / "manifest.yaml").read_text(encoding="utf-8"))
    manifest["id"] = CUT_ID
    padding = bytes(range(256)) * (PADDING_BYTES // 256)
    digest = hashlib.sha256(padding).hexdigest()
    manifest["files"]["padding.bin"] = {"size": len(padding), "sha256": digest}
    contents = {path.name: path.read_bytes() for path in sorted(source.iterdir())}
    contents["padding.bin"] = padding
    text = yaml.safe_dump(manifest, allow_unicode=True, sort_keys=False)
    contents["manifest.yaml"] = text.encode()
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {CUT_ID}/{name}\n" for name, data in contents.items()
    )
    bundle = work / f"{CUT_ID}.tar"
    with tarfile.open(bundle, "w") as tar:
        for name, data in [
            *((f"{CUT_ID}/{name}", data) for name, data in contents.items()),
            ("SHA256SUMS", sums.encode()),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return bundle
