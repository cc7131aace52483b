"""The access token in the state folder, and the cookies that stand for it in browsers."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from agent.errors import AgentError
from agent.store.disk import Disk

TOKEN_NAME = "token"
"""File in the state folder; its first line is the token."""
_MODE = 0o600
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without characters that are taken for one another when they are typed from a screen."""
_GROUPS, _GROUP = 6, 4
"""24 characters of 31: 118 bits."""
_VALID = re.compile(r"[!-\[\]-~]{16,256}")
_MAX_BYTES = 4096
_DAY_S = 86400


class TokenError(AgentError):
    """The token can't be read or written."""

    code = "token"


def new_token() -> str:
    """A fresh token, easy to type: `k7mq-2xwd-...`."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def read_token(state: Path) -> str | None:
    """The token of a state folder; None when there is none yet. Raises TokenError."""
    path = state / TOKEN_NAME
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("ascii", "replace").partition("\n")[0].strip()
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                os.chmod(path, _MODE)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise TokenError(
            f"{path}: {(error.strerror or '').lower()}; run this as the owner of the state "
            "folder or as root"
        ) from None
    except OSError as error:
        raise TokenError(f"{path}: can't be read: {(error.strerror or '').lower()}") from None
    if not text:  # a power cut while it was made
        return None
    if not _VALID.fullmatch(text):
        raise TokenError(
            f"{path}: a token has 16 to 256 letters, digits and marks, no spaces; remove the file "
            "and a new one is made, or: funasr-agent token rotate"
        )
    return text


def write_token(state: Path, token: str) -> None:
    """Keep `token` as a whole or not at all, readable by the owner only. Raises TokenError."""
    disk = Disk()
    try:
        disk.make_folder(state)
        disk.write(state / TOKEN_NAME, f"{token}\n".encode("ascii"), _MODE)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TokenError(f"{state / TOKEN_NAME}: can't be written: {reason}") from None


class TokenKeeper:
    """The token in force. Used on the event loop."""

    def __init__(self, token: str, now: Callable[[], float] = time.time) -> None:
        """`now`: UNIX time."""
        self._now = now
        self.use(token)

    @classmethod
    def of(cls, state: Path) -> TokenKeeper:
        """The token of a state folder, made when there is none. Raises TokenError."""
        token = read_token(state)
        if token is None:
            token = new_token()
            write_token(state, token)
        return cls(token)

    @property
    def token(self) -> str:
        """The token itself; for its owner's eyes only."""
        return self._token

    def use(self, token: str) -> bool:
        """From now on this token; True when it is another than before."""
        changed = token != getattr(self, "_token", token)
        self._token = token
        self._digest = hashlib.sha256(token.encode()).digest()
        self._key = hashlib.sha256(b"funasr-agent cookie\0" + token.encode()).digest()
        return changed

    def is_token(self, offered: str) -> bool:
        """Whether it is the token; takes the same time whatever is offered."""
        digest = hashlib.sha256(offered.strip().encode("utf-8", "replace")).digest()
        return hmac.compare_digest(digest, self._digest)

    def make_cookie(self, days: float) -> str:
        """A value that proves a sign-in until it expires or the token changes."""
        body = f"{int(self._now() + days * _DAY_S)}.{secrets.token_urlsafe(12)}"
        return f"{body}.{self._sign(body)}"

    def is_cookie(self, value: str) -> bool:
        """Whether a cookie was made for the token in force and has not expired."""
        body, _, signature = value.rpartition(".")
        if not hmac.compare_digest(self._sign(body).encode(), signature.encode("utf-8", "replace")):
            return False
        return self._now() < int(body.partition(".")[0])

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, body.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
