"""Which file names a manifest may use."""

from __future__ import annotations

from pathlib import Path

MANIFEST_NAME = "manifest.yaml"
SIGNATURE_NAME = "manifest.yaml.sig"


def unsafe_name(name: str) -> str:
    """Why `name` can't be the name of a file inside a model folder; empty when it can."""
    if not name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "is empty or has control characters"
    if name.startswith(("/", "~")) or "\\" in name or ":" in name:
        return "is absolute or not portable; write it relative to the folder, with '/'"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "leaves the model's folder or is not in its plain form"
    if name in (MANIFEST_NAME, SIGNATURE_NAME):
        return "is the manifest itself or its signature, which can't state their own hash"
    return ""


def link_on_the_way(folder: Path, name: str) -> str:
    """Why `name` on disk is not really inside `folder`: a link at some step; empty when it is."""
    path = folder
    for part in name.split("/"):
        path = path / part
        try:
            linked = path.is_symlink()
        except (OSError, ValueError):
            return "the name can't be used on this system"
        if linked:
            return "is a symbolic link; put the file itself into the model's folder"
    return ""
