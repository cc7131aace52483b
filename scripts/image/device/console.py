"""Puts what its owner needs to open the page on the box's console, above the login.

Runs on the box with the system's Python, standard library only. The address itself is in
/etc/issue, where the login program fills in name and address and follows their changes.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import sys
from pathlib import Path

STATE = Path("/var/lib/funasr-agent")
ISSUE = Path("/run/funasr-image/access.issue")
_GROUP = 16


def text(state: Path) -> str:
    """The lines: access code where there is one, fingerprint of the box's own certificate."""
    lines = []
    token = _first_line(state / "token")
    # Whatever else the file holds is not for a terminal.
    if re.fullmatch(r"[!-\[\]-~]{8,256}", token):
        lines.append(f"  Access code   {token}")
    fingerprint = _fingerprint(state / "tls/cert.pem")
    if fingerprint:
        parts = [fingerprint[i : i + _GROUP] for i in range(0, len(fingerprint), _GROUP)]
        lines.append(f"  Certificate   SHA-256 {' '.join(parts)}")
    return "\n".join([*lines, "", ""]) if lines else ""


def main() -> int:
    """Write the issue file; nothing to show is no failure."""
    ISSUE.parent.mkdir(parents=True, exist_ok=True)
    ISSUE.write_text(text(STATE), encoding="ascii")
    return 0


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("ascii", "replace").split("\n", 1)[0].strip()
    except FileNotFoundError:
        return ""


def _fingerprint(path: Path) -> str:
    try:
        pem = path.read_text(encoding="ascii")
        # The authority that signed it may follow.
        first = pem.split(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest().upper()
    except (FileNotFoundError, ValueError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
