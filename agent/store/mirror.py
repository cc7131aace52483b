"""A mirror of published models over HTTP: addresses, redirects, ranges; nothing touches the disk.

No message shows a password or a query, since addresses of mirrors and of what they redirect to
can carry secrets.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import string
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

from agent.errors import FetchError

FIELDS = ("name", "revision", "file")
MAX_REDIRECTS = 5
MAX_WAIT_S = 60.0
"""No answer makes us wait longer than this, whatever it asks for."""
BLOCK = 256 << 10

_REDIRECTS = (301, 302, 303, 307, 308)
_WORTH_A_RETRY = (408, 425, 429, 500, 502, 503, 504)
_ABSENT = (404, 410)
_RANGE_REFUSED = 416
_WEB_PAGE = (b"<!doctype html", b"<html")


class TryAgain(Exception):
    """It may work in a while; `wait_s` is what the server asks for, if it does."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Absent(Exception):
    """The mirror does not have the file."""


class NothingLeft(Exception):
    """There is nothing from the asked offset on; `total` is the file's size if it is told."""

    def __init__(self, total: int | None) -> None:
        super().__init__("the mirror has no more than came before")
        self.total = total


class Answer:
    """An answer with content; closes the connection at the end of the `with` block."""

    def __init__(self, response: Any, start: int, total: int | None, shown: str) -> None:
        self._response = response
        self.start = start
        """Index of the first byte that comes."""
        self.total = total
        """Size of the whole file as announced."""
        self.shown = shown
        self.validator = _validator(response.headers)
        """For a later `open`; empty when the server gives none that is strong."""

    def read(self) -> bytes:
        """At most BLOCK bytes, as they come; empty at the end. Raises TryAgain."""
        try:
            return bytes(self._response.read1(BLOCK))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TryAgain(f"{self.shown}: {_reason(error)}") from None

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()


class Mirror:
    """Opens files of a mirror. Raises FetchError for a template that makes no address."""

    def __init__(self, template: str, timeout_s: float) -> None:
        self._template = _checked_template(template)
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def url(self, name: str, revision: str, file: str) -> str:
        """The address of a file, still with the template's credentials: see `shown`."""
        values = {"name": name, "revision": revision, "file": file}
        return self._template.format(**{k: urllib.parse.quote(v) for k, v in values.items()})

    def open(self, url: str, *, offset: int = 0, validator: str = "") -> Answer:
        """Ask for a file from byte `offset` on, if it still is the one of `validator`.

        The answer may start at 0 all the same. Raises TryAgain, Absent, NothingLeft, and
        FetchError for what no other try can cure.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": "funasr-agent"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if validator:
                headers["If-Range"] = validator
        url, secret = _without_credentials(url)
        origin = _origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            own = {"Authorization": secret} if secret and _origin(url) == origin else {}
            response = self._ask(url, {**headers, **own})
            if response.status not in _REDIRECTS:
                return self._answer(response, url, offset)
            response.close()
            url = _redirected(url, response.headers.get("Location", ""))
        raise FetchError(f"{shown(url)}: redirects more than {MAX_REDIRECTS} times; {_ADVICE}")

    def _ask(self, url: str, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(url, headers=dict(headers))
        try:
            return self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as answer:
            return answer
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise FetchError(
                    f"{shown(url)}: its certificate is not trusted "
                    f"({error.reason.verify_message}); {_ADVICE}, or the clock"
                ) from None
            raise TryAgain(f"{shown(url)}: {_reason(error.reason)}") from None
        except (http.client.InvalidURL, ValueError):
            raise FetchError(f"{shown(url)}: is no address that can be used; {_ADVICE}") from None
        except (OSError, http.client.HTTPException) as error:
            raise TryAgain(f"{shown(url)}: {_reason(error)}") from None

    def _answer(self, response: Any, url: str, offset: int) -> Answer:
        """What came, when it is content. Closes the response otherwise."""
        try:
            start, total = _content(response, url, offset)
        except BaseException:
            response.close()
            raise
        return Answer(response, start, total, shown(url))


def shown(url: str) -> str:
    """`url` for people: without user, password, query and fragment."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "(an unreadable address)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_web_page(head: bytes) -> bool:
    """Whether a file that starts with `head` is HTML."""
    return head[:512].lstrip().lower().startswith(_WEB_PAGE)


_ADVICE = "check the mirror"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed here, where they are counted and their targets judged."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        """Leave the answer as it is."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _content(response: Any, url: str, offset: int) -> tuple[int, int | None]:
    """First byte and size of the whole file."""
    status, headers, where = response.status, response.headers, shown(url)
    if status in _ABSENT:
        raise Absent(f"{where}: the mirror answers {status}")
    if status == _RANGE_REFUSED and offset:
        told = re.fullmatch(r"bytes \*/(\d{1,18})", headers.get("Content-Range", ""))
        raise NothingLeft(int(told[1]) if told else None)
    if status in _WORTH_A_RETRY:
        raise TryAgain(f"{where}: the mirror answers {status}", _retry_after(headers))
    if status not in (200, 206):
        raise FetchError(f"{where}: the mirror answers {status}; {_ADVICE} and your access to it")
    if headers.get_content_type() == "text/html" and headers.get("Content-Type"):
        raise Absent(f"{where}: the mirror answers with a web page instead of the file")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError(f"{where}: the mirror sends it compressed, unasked; {_ADVICE}")
    length = headers.get("Content-Length", "")
    announced = int(length) if re.fullmatch(r"\d{1,18}", length) else None
    if status == 200:
        return 0, announced
    told = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", headers["Content-Range"] or "")
    if told is None or int(told[1]) != offset:
        raise TryAgain(f"{where}: the mirror sends another range than was asked for")
    if told[2] != "*":
        return offset, int(told[2])
    return offset, None if announced is None else offset + announced


def _checked_template(template: str) -> str:
    """Never shows the template itself: it can hold a password."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise FetchError(f"the mirror is no template of an address ({error})") from None
    fields = [name for _, name, _, _ in parsed if name is not None]
    allowed = ", ".join(f"{{{name}}}" for name in FIELDS)
    if unknown := [name for name in fields if name not in FIELDS]:
        raise FetchError(
            f"the mirror has the unknown field {{{unknown[0]}}}; it can have {allowed}"
        )
    if any(spec or conversion for _, _, spec, conversion in parsed):
        raise FetchError(f"the mirror's fields stand alone, as in {allowed}")
    if "file" not in fields:
        raise FetchError(f"the mirror needs the field {{file}}; it can have {allowed}")
    if not _is_web_address(template.format(**dict.fromkeys(FIELDS, "x"))):
        raise FetchError(
            "the mirror must be an address that starts with http:// or https:// and names a host"
        )
    return template


def _is_web_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _without_credentials(url: str) -> tuple[str, str]:
    """The address without `user:password@`, and the header's value made of it."""
    parts = urllib.parse.urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    secret = base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()
    return urllib.parse.urlunsplit(parts._replace(netloc=host)), f"Basic {secret}"


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _redirected(url: str, location: str) -> str:
    """Where a redirect goes, if it may go there."""
    quoted = urllib.parse.quote(location, safe=string.punctuation)
    try:
        target = urllib.parse.urljoin(url, quoted)
    except ValueError:
        target = ""
    if not location or not _is_web_address(target):
        raise FetchError(f"{shown(url)}: redirects to what is no web address; {_ADVICE}")
    if url.startswith("https:") and not target.startswith("https:"):
        raise FetchError(f"{shown(url)}: redirects from https to http; {_ADVICE}")
    return _without_credentials(target)[0]


def _validator(headers: Message) -> str:
    """What If-Range takes: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _retry_after(headers: Message) -> float | None:
    """Seconds that the server asks for, within bounds."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return min(float(text), MAX_WAIT_S)
    try:
        when = parsedate_to_datetime(text)
        seconds = (when - datetime.now(timezone.utc)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), MAX_WAIT_S)


def _reason(error: object) -> str:
    """An exception of the network in a few words, without an address in it."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    return "can't be reached" if isinstance(error, str) else type(error).__name__
