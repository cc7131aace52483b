"""The page and its files, under an address that names their content: kept for good by a browser."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"
FOREVER = "public, max-age=31536000, immutable"
_DIGITS = 12


class Assets:
    """The files as they were at the start."""

    def __init__(self, folder: Path = STATIC) -> None:
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
        self.prefix = f"/static/{digest.hexdigest()[:_DIGITS]}"
        """Address of the files; modules name each other relative to it."""
        self.etag = f'"{digest.hexdigest()[:_DIGITS]}"'
        """Of the page."""
        page = (folder / "index.html").read_text(encoding="utf-8")
        self.page = page.replace('"/static/', f'"{self.prefix}/')


ASSETS: web.AppKey[Assets] = web.AppKey("assets", Assets)
