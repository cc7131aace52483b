"""Another host on the LAN: nothing without the token, everything with it, over TLS."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon, free_port
from tests.lan import BROWSER, Answer, Ask, OtherHost, socket_ask

LISTEN = "listen=[{host: 0.0.0.0, port: 0}, {host: 0.0.0.0, port: 0, tls: true}]"
PATHS = (
    "/",
    "/health",
    "/metrics",
    "/openapi.json",
    "/static/main.js",
    "/static/app.css",
    "/api/v1/status",
    "/api/v1/models",
    "/api/v1/microphone",
    "/api/v1/transcripts",
    "/api/v1/token",
    "/v1/models",
    "/nothing",
)
SOCKETS = ("/api/v1/stream", "/api/v1/events", "/v1/realtime")


@pytest.fixture(scope="module")
def host() -> Iterator[OtherHost]:
    if reason := OtherHost.missing():
        pytest.skip(reason)
    with OtherHost() as made:
        yield made


class Lan:
    """A daemon, as the other host sees it."""

    def __init__(self, daemon: Daemon, host: OtherHost, state: Path) -> None:
        self.daemon, self.host, self.state = daemon, host, state
        ports = [int(address.rsplit(":", 1)[1].strip("/")) for address in daemon.addresses]
        self.plain = f"http://{host.box}:{ports[0]}"
        self.tls = f"https://{host.box}:{ports[1]}"
        self.token = (state / "token").read_text().strip()

    def ask(self, *asks: Ask) -> list[Answer]:
        return self.host.ask(asks)


@pytest.fixture(scope="module")
def lan(host: OtherHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    state = tmp_path_factory.mktemp("lan")
    with Daemon(state, LISTEN, "auth.attempts_per_minute=1000", listeners=2) as daemon:
        yield Lan(daemon, host, state)


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def test_without_a_token_only_life_and_the_sign_in_answer(lan: Lan) -> None:
    for base in (lan.plain, lan.tls):
        closed = lan.ask(*(Ask(base + path) for path in PATHS))
        assert statuses(closed) == [401] * len(PATHS)
        assert all(a.headers["www-authenticate"].startswith("Bearer") for a in closed)
        assert all(json.loads(a.body)["error"]["code"] == "unauthorized" for a in closed)
        assert statuses(lan.ask(*(socket_ask(base + path) for path in SOCKETS))) == [401] * 3
        posts = ("/v1/audio/transcriptions", "/api/v1/models", "/api/v1/models/vad")
        assert statuses(lan.ask(*(Ask(base + p, "POST", body="x") for p in posts))) == [401] * 3
        names = ("/sign-in", "/sign-in/about", "/sign-in/trust", "/sign-in/sign-in.js")
        opened = lan.ask(*(Ask(base + path) for path in ("/livez", "/readyz", *names)))
        assert statuses(opened) == [200] * 6


def test_a_wrong_token_is_401_in_every_way(lan: Lan) -> None:
    status, api = lan.tls + "/api/v1/status", lan.tls + "/api/v1/status?token="
    wrong = "k7mq-2xwd-9fhp-4tza-n8cr-wwww"
    answers = lan.ask(
        Ask(status, headers={"Authorization": f"Bearer {wrong}"}),
        Ask(status, headers={"Authorization": f"Basic {lan.token}"}),
        Ask(status, headers={"Cookie": f"__Host-funasr-agent={lan.token}"}),
        Ask(status, headers={"Cookie": "__Host-funasr-agent=99999999999.x.00"}),
        Ask(api + wrong),
        Ask(api),
        Ask(status, headers={"X-Forwarded-For": "127.0.0.1", "Host": "localhost"}),
    )
    assert statuses(answers) == [401] * 7


def test_the_token_opens_everything_as_a_header_and_in_the_address(lan: Lan) -> None:
    bearer = {"Authorization": f"Bearer {lan.token}"}
    answers = lan.ask(
        Ask(lan.tls + "/api/v1/status", headers=bearer),
        Ask(lan.plain + "/api/v1/status", headers=bearer),
        Ask(lan.tls + "/", headers=bearer),
        Ask(f"{lan.tls}/health?token={lan.token}"),
        socket_ask(f"{lan.tls}/api/v1/events?token={lan.token}"),
        socket_ask(lan.tls + "/api/v1/stream", **bearer),
    )
    assert statuses(answers) == [200, 200, 200, 200, 101, 101]
    # The token itself is for the box's own commands.
    assert statuses(lan.ask(Ask(lan.tls + "/api/v1/token", headers=bearer))) == [403]


def test_a_browser_in_the_clear_is_sent_to_https_and_programs_are_not(lan: Lan) -> None:
    (sent,) = lan.ask(Ask(lan.plain + "/some/page?a=%0D%0Ab", headers=BROWSER))
    assert (sent.status, sent.headers["location"]) == (307, lan.tls + "/some/page?a=%0D%0Ab")
    hostile = {**BROWSER, "Host": "evil.example/\\@x"}
    assert lan.ask(Ask(lan.plain + "/", headers=hostile))[0].status in (303, 400)
    assert lan.ask(Ask(lan.plain + "/livez", headers=BROWSER))[0].status == 200
    (page,) = lan.ask(Ask(lan.tls + "/", headers=BROWSER))
    assert (page.status, page.headers["location"]) == (303, "/sign-in")


def test_signing_in_gives_a_cookie_for_https_only(lan: Lan) -> None:
    body = json.dumps({"token": lan.token})
    good, wrong, plain = lan.ask(
        Ask(lan.tls + "/sign-in", "POST", body=body),
        Ask(lan.tls + "/sign-in", "POST", body='{"token": "wrong"}'),
        Ask(lan.plain + "/sign-in", "POST", body=body),
    )
    assert (good.status, wrong.status, plain.status) == (204, 401, 403)
    cookie = good.headers["set-cookie"]
    assert cookie.startswith("__Host-funasr-agent=")
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "set-cookie" not in wrong.headers
    assert "set-cookie" not in plain.headers
    assert lan.token not in cookie
    signed_in = {"Cookie": cookie.partition(";")[0]}
    answers = lan.ask(
        Ask(lan.tls + "/", headers={**signed_in, **BROWSER}),
        socket_ask(lan.tls + "/api/v1/events", **signed_in),
        Ask(lan.plain + "/api/v1/status", headers=signed_in),
        socket_ask(lan.tls + "/api/v1/events", Origin="https://evil.example", **signed_in),
        Ask(lan.tls + "/api/v1/models", "POST", {"Origin": "https://evil.example", **signed_in}),
    )
    assert statuses(answers) == [200, 101, 401, 403, 403]


def test_an_address_with_the_token_signs_in_and_loses_it(lan: Lan) -> None:
    (sent,) = lan.ask(Ask(f"{lan.tls}/?token={lan.token}&a=1", headers=BROWSER))
    assert (sent.status, sent.headers["location"]) == (303, "/?a=1")
    assert "HttpOnly" in sent.headers["set-cookie"]
    (refused,) = lan.ask(Ask(lan.tls + "/?token=wrong", headers=BROWSER))
    assert (refused.status, refused.headers["location"]) == (303, "/sign-in?refused=token")


def test_the_certificate_is_trusted_by_whoever_took_the_box_s_authority(
    lan: Lan, tmp_path: Path
) -> None:
    (download,) = lan.ask(Ask(lan.tls + "/sign-in/certificate.crt"))
    assert "attachment" in download.headers["content-disposition"]
    ca = tmp_path / "ca.crt"
    ca.write_text(download.body)
    assert lan.host.ask([Ask(lan.tls + "/livez")], ca)[0].status == 200


def test_funasr_clients_need_no_token_and_reach_nothing_else(lan: Lan) -> None:
    answers = lan.ask(
        socket_ask(lan.plain + "/", **{"Sec-WebSocket-Protocol": "binary"}),
        socket_ask(lan.tls + "/ws"),
        socket_ask(lan.tls + "/ws", Origin="https://evil.example"),
        socket_ask(lan.tls + "/ws", Origin="null"),
    )
    assert statuses(answers) == [101, 101, 403, 403]


def test_networks_say_who_needs_no_token(host: OtherHost, tmp_path: Path) -> None:
    metrics = f"auth.open_metrics=[{host.address}]"
    with Daemon(tmp_path, LISTEN, "funasr.allow=off", metrics, listeners=2, ready=False) as daemon:
        lan = Lan(daemon, host, tmp_path)
        bearer = {"Authorization": f"Bearer {lan.token}"}
        answers = lan.ask(
            socket_ask(lan.plain + "/"),
            socket_ask(lan.plain + "/", **bearer),
            Ask(lan.plain + "/health"),
            Ask(lan.plain + "/metrics"),
            Ask(lan.plain + "/api/v1/status"),
        )
        assert statuses(answers)[:2] == [401, 101]
        assert answers[2].status in (200, 503)  # its models may not be loaded yet
        assert statuses(answers)[3:] == [200, 401]


def test_auth_open_serves_everyone_and_says_so(host: OtherHost, tmp_path: Path) -> None:
    with Daemon(tmp_path, LISTEN, "auth=open", listeners=2, ready=False) as daemon:
        lan = Lan(daemon, host, tmp_path)
        assert statuses(lan.ask(Ask(lan.tls + "/"), Ask(lan.plain + "/api/v1/status"))) == [200] * 2
        assert "everyone who reaches 0.0.0.0, 0.0.0.0 is served" in daemon.log()


def test_a_changed_token_is_in_force_at_once(host: OtherHost, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent", "token"]
    state = ["--set", f"state_dir={tmp_path}"]
    with Daemon(tmp_path, LISTEN, listeners=2, ready=False) as daemon:
        lan = Lan(daemon, host, tmp_path)
        shown = subprocess.run([*command, "show", *state], capture_output=True, text=True)
        assert shown.stdout.strip() == lan.token
        made = subprocess.run([*command, "rotate", *state], capture_output=True, text=True)
        token = made.stdout.strip()
        assert re.fullmatch(r"(\w{4}-){5}\w{4}", token)
        assert token != lan.token
        assert (tmp_path / "token").read_text() == f"{token}\n"
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
        status = lan.tls + "/api/v1/status?token="
        assert statuses(lan.ask(Ask(status + lan.token), Ask(status + token))) == [401, 200]
        assert lan.token not in daemon.log() + shown.stderr + made.stderr
        assert token not in daemon.log()


def test_run_lan_prints_the_address_to_open(host: OtherHost, root: Path, tmp_path: Path) -> None:
    with socket.socket() as a, socket.socket() as b:
        a.bind(("", 0))
        b.bind(("", 0))
        ports = a.getsockname()[1], b.getsockname()[1]
    command = [sys.executable, "-m", "agent", "serve", "--lan"]
    for setting in (
        f"state_dir={tmp_path}",
        f"listen.0.port={ports[0]}",
        f"listen.1.port={ports[1]}",
    ):
        command += ["--set", setting]
    log = (tmp_path / "log").open("wb")
    with (
        log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=tmp_path) as serving,
    ):
        assert serving.stdout is not None
        found = []
        for line in serving.stdout:
            if match := re.search(r"from other machines open (\S+)", line.decode()):
                found.append(match[1])
            if any(host.box in address for address in found):
                break
        address = next(address for address in found if host.box in address)
        (opened,) = host.ask([Ask(address, headers=BROWSER)])
        assert (opened.status, opened.headers["location"]) == (303, "/")
        serving.terminate()
    token = (tmp_path / "token").read_text().strip()
    assert token in address
    assert token not in (tmp_path / "log").read_text()


def test_a_reload_opens_the_box_to_the_network_and_takes_a_new_token(
    host: OtherHost, tmp_path: Path
) -> None:
    with Daemon(tmp_path, ready=False) as daemon:
        port = free_port()
        listen = [{"port": 0}, {"host": host.box, "port": port, "tls": True}]
        assert daemon.reload({"listen": listen}) == "as its sources say"
        status = f"https://{host.box}:{port}/api/v1/status"
        tokens = [(tmp_path / "token").read_text().strip(), "correct-horse-battery"]

        def seen() -> list[int]:
            asks = [Ask(status, headers={"Authorization": f"Bearer {t}"}) for t in tokens]
            return statuses(host.ask([Ask(status), *asks], ca=tmp_path / "tls" / "ca.pem"))

        assert seen() == [401, 200, 401]
        (tmp_path / "token").write_text(tokens[1])
        daemon.reload({"listen": listen})
        assert seen() == [401, 401, 200]
        daemon.reload({"listen": listen, "auth": "open"})
        assert seen() == [200, 200, 200]
        assert daemon.stop() == 0
