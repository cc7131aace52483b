"""Run on the other host: requests as JSON on stdin, their answers as JSON on stdout."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
from typing import Any
from urllib.parse import urlsplit

MOST = 1 << 16


def answer(ask: dict[str, Any], trust: ssl.SSLContext) -> dict[str, Any]:
    parts = urlsplit(ask["url"])
    assert parts.hostname is not None
    link: http.client.HTTPConnection
    if parts.scheme == "https":
        link = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=20, context=trust)
    else:
        link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    link.request(ask["method"], path, ask["body"].encode() or None, ask["headers"])
    got = link.getresponse()
    body = b"" if got.status == 101 else got.read(MOST)
    link.close()
    headers = {name.lower(): value for name, value in got.getheaders()}
    return {"status": got.status, "headers": headers, "body": body.decode("utf-8", "replace")}


def main() -> None:
    job = json.load(sys.stdin)
    trust = ssl.create_default_context(cafile=job["ca"])
    if job["ca"] is None:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    json.dump([answer(ask, trust) for ask in job["asks"]], sys.stdout)


main()
