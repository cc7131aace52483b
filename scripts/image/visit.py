"""How the boot test reaches the board: HTTP(S) through forwarded ports, SSH, a browser."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ANSWER_S = 120
_POLL_S = 2.0


class Failed(RuntimeError):
    """A step of the test did not give what it should."""


def until(what: str, ask: Callable[[], bool], limit_s: float) -> float:
    """Seconds until `ask()`. Raises Failed naming `what`; no answer yet counts as no."""
    started = time.monotonic()
    while True:
        try:
            if ask():
                return time.monotonic() - started
        except (OSError, http.client.HTTPException):
            pass  # not up yet, or going down
        if time.monotonic() - started > limit_s:
            raise Failed(f"{what}: not within {limit_s:.0f} s")
        time.sleep(_POLL_S)


class Page:
    """One listener of the board, seen from this machine."""

    def __init__(self, port: int, *, tls: bool, token: str) -> None:
        self._port, self._tls, self._token = port, tls, token

    @property
    def url(self) -> str:
        """With the forwarded port, and the token, for which a browser gets its cookie."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}/?token={self._token}"

    def get(self, path: str) -> tuple[int, str]:
        """Status and body. Raises OSError or HTTPException."""
        return self._ask("GET", path, None, {})

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.get("/readyz")[0] == 200

    def health(self) -> dict[str, Any]:
        """What /health says."""
        answer: dict[str, Any] = json.loads(self.get("/health")[1])
        return answer

    def transcribe(self, wav: Path) -> str:
        """The text of a file, over OpenAI's API."""
        edge = uuid.uuid4().hex
        body = (
            f'--{edge}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{wav.name}"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        ).encode()
        body += wav.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        status, text = self._ask("POST", "/v1/audio/transcriptions", body, kind)
        if status != 200:
            raise Failed(f"{wav.name}: HTTP {status}: {text[:300]}")
        return str(json.loads(text)["text"])

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, str]:
        connection: http.client.HTTPConnection
        if self._tls:  # the box's own certificate, which nobody here has trusted
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=_ANSWER_S, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_S)
        try:
            bearer = {"Authorization": f"Bearer {self._token}"}
            connection.request(method, path, body, {**headers, **bearer})
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()


class Shell:
    """The board's SSH, by the key that its settings file let in."""

    def __init__(self, port: int, key: Path, user: str) -> None:
        self._command = ["ssh", "-q", "-i", str(key), "-p", str(port)]
        for option in (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "ConnectTimeout=60",
            "ServerAliveInterval=10",
        ):
            self._command += ["-o", option]
        self._command.append(f"{user}@127.0.0.1")

    def run(self, script: str, limit_s: float = 300) -> str:
        """Output of a shell script on the board. Raises Failed."""
        done = subprocess.run(
            [*self._command, script],
            capture_output=True,
            text=True,
            timeout=limit_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{script}: exit {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
        return done.stdout.strip()

    def answers(self) -> bool:
        """Whether a command can be run."""
        done = subprocess.run(
            [*self._command, "true"], capture_output=True, timeout=90, check=False
        )
        return done.returncode == 0

    def start(self, script: str, given: Path) -> subprocess.Popen[bytes]:
        """Run a script in the background with a file as its standard input."""
        with given.open("rb") as file:
            return subprocess.Popen(
                [*self._command, script],
                stdin=file,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


def photograph(page: Page, wav: Path, picture: Path, limit_s: float) -> str:
    """Upload a file on the page in Chromium and take a picture; the text that the page shows."""
    from playwright.sync_api import sync_playwright

    path = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if path is None:
        raise Failed("no Chromium for the picture; install it with: apt-get install chromium")
    limit_ms = limit_s * 1000
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(
            ignore_https_errors=True, viewport={"width": 1000, "height": 900}
        )
        view = context.new_page()
        view.set_default_timeout(limit_ms)
        view.goto(page.url)
        view.wait_for_selector('body[data-state="idle"], body[data-state="blocked"]')
        view.click("#nav-files")
        view.set_input_files("#files-input", str(wav))
        view.wait_for_selector('[data-file="done"]')
        shown = view.locator(".file-text p span:last-child").all_text_contents()
        view.screenshot(path=str(picture))
        browser.close()
    return " ".join(shown)
