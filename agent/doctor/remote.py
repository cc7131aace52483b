"""Another box over the network, step by step: name, TCP, TLS, HTTP, WebSocket, a clip."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.doctor.clip import Clip
from agent.doctor.conversation import Socket, check_clip
from agent.doctor.lan import Resolve, resolve
from agent.doctor.remote_answers import judge_health, judge_live, judge_ready, readable
from agent.doctor.remote_tls import check_tls, trusting
from agent.doctor.report import Check, failure, ok, warning
from agent.doctor.running import failed

if TYPE_CHECKING:
    import aiohttp

Tell = Callable[[Check], None]
"""Called with each line as soon as it is known."""

_MAX_BODY = 256 * 1024
_MAX_MESSAGE = 1 << 20
_SCHEMES = {"http": (80, False), "ws": (80, False), "https": (443, True), "wss": (443, True)}


@dataclass(frozen=True)
class Limits:
    """Seconds that each step may take."""

    connect_s: float = 5
    http_s: float = 6
    clip_s: float = 90


@dataclass(frozen=True)
class Target:
    """Where the other box is."""

    host: str
    port: int
    tls: bool

    @property
    def base(self) -> str:
        """Address without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def parse_target(url: str) -> Target:
    """`http://host:port`, https, ws or wss; a bare host is http. Raises ValueError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{parts.scheme}:// is not http, https, ws or wss")
    if not parts.hostname:
        raise ValueError("it names no host")
    port, tls = _SCHEMES[parts.scheme]
    return Target(parts.hostname, parts.port or port, tls)


@dataclass(frozen=True)
class RemoteCheck:
    """What a check of another box needs."""

    target: Target
    clip: Clip | None
    token: str | None = None
    limits: Limits = Limits()
    find: Resolve = resolve
    now: Callable[[], float] = time.time

    def run(self, tell: Tell) -> None:
        """Every step, until one fails that the others need. Never raises, never hangs."""
        asyncio.run(self._run(tell))

    async def _run(self, tell: Tell) -> None:
        try:
            address = await self._reach(tell)
            if address is not None:
                await self._speak(address, tell)
        except Exception as error:  # noqa: BLE001 - whatever another box does is a line
            tell(failed("check", f"{type(error).__name__}: {error}"))

    async def _reach(self, tell: Tell) -> str | None:
        """The address to speak to, once name, TCP and TLS are fine."""
        host, port = self.target.host, self.target.port
        addresses = [host] if _is_address(host) else list(self.find(host))
        if not addresses:
            advice = (
                "check the spelling, or use the box's address; .local needs avahi on both sides"
            )
            tell(failure("name", f"{host} does not resolve", advice))
            return None
        shown = ", ".join(addresses)
        tell(ok("name", f"{host} is {shown}" if shown != host else f"{host} is an address"))
        address = await self._tcp(addresses, tell)
        if address is None or not self.target.tls:
            return address
        line, speaks = await check_tls(host, address, port, self.limits.http_s, self.now())
        tell(line)
        return address if speaks else None

    async def _tcp(self, addresses: list[str], tell: Tell) -> str | None:
        port, reasons = self.target.port, []
        for address in addresses:
            started = time.perf_counter()
            try:
                _, writer = await asyncio.wait_for(
                    asyncio.open_connection(address, port), self.limits.connect_s
                )
            except asyncio.TimeoutError:
                reasons.append(f"{address} does not answer within {self.limits.connect_s:g} s")
                continue
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                reasons.append(f"{address}: {reason.lower()}")
                continue
            writer.transport.abort()
            took_ms = (time.perf_counter() - started) * 1000
            tell(ok("tcp", f"port {port} of {address} answers in {took_ms:.0f} ms"))
            return address
        advice = (
            "is the box on, in this network, and the agent listening there? is a firewall between?"
        )
        tell(failure("tcp", f"port {port}: {'; '.join(reasons)}", advice))
        return None

    async def _speak(self, address: str, tell: Tell) -> None:
        async with _session(address, self.token) as http:
            speaks = await self._http(http, tell)
            if speaks:
                await self._recognise(http, tell)

    async def _http(self, http: aiohttp.ClientSession, tell: Tell) -> bool:
        """/livez, /readyz and /health; False when the other side does not even speak HTTP."""
        try:
            status, body = await self._get(http, "/livez")
        except _NoAnswer as error:
            advice = "another program may listen there; an https port needs https:// in --url"
            tell(failure("livez", str(error), advice))
            return False
        tell(judge_live(status, body))
        try:
            tell(judge_ready(*await self._get(http, "/readyz")))
            status, body = await self._get(http, "/health")
            tell(judge_health(status, body, has_token=self.token is not None))
        except _NoAnswer as error:
            tell(failure("health", str(error), "restart the agent there: it no longer answers"))
            return False
        return True

    async def _get(self, http: aiohttp.ClientSession, path: str) -> tuple[int, str]:
        import aiohttp

        limit_s = self.limits.http_s

        async def get() -> tuple[int, str]:
            async with http.get(self.target.base + path, allow_redirects=False) as answer:
                body = await answer.content.read(_MAX_BODY)
                while len(body) < _MAX_BODY and (more := await answer.content.read(_MAX_BODY)):
                    body += more
                return answer.status, body.decode("utf-8", "replace")

        try:
            return await asyncio.wait_for(get(), limit_s)
        except asyncio.TimeoutError:
            raise _NoAnswer(f"accepts connections, but gives no answer in {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _NoAnswer(f"does not speak HTTP: {_brief(error)}") from None

    async def _recognise(self, http: aiohttp.ClientSession, tell: Tell) -> None:
        import aiohttp

        opening = http.ws_connect(
            self.target.base + "/ws", protocols=("binary",), max_msg_size=_MAX_MESSAGE
        )
        try:
            socket = await asyncio.wait_for(opening, self.limits.http_s)
        except asyncio.TimeoutError:
            seen = f"no upgrade within {self.limits.http_s:g} s"
            tell(failure("websocket", seen, "a proxy between may not pass WebSockets on"))
            return
        except (aiohttp.ClientError, OSError, ValueError) as error:
            advice = "a proxy may not pass WebSockets on; the box may not serve this network"
            tell(failure("websocket", f"/ws refuses the upgrade: {_brief(error)}", advice))
            return
        try:
            tell(ok("websocket", "/ws speaks FunASR's protocol"))
            tell(await self._clip(socket))
        finally:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(socket.close(), self.limits.connect_s)

    async def _clip(self, socket: Socket) -> Check:
        if self.clip is None:
            advice = "install the package again, or point models.dir to its models"
            return warning("clip", "not tried: the built-in clip is not on this machine", advice)
        return await check_clip(socket, self.clip, self.limits.clip_s)


class _NoAnswer(Exception):
    """A request came to nothing; says how."""


@contextlib.asynccontextmanager
async def _session(address: str, token: str | None) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that goes to `address` whatever the name, and speaks with any certificate."""
    import socket

    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Known(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            return [
                ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)
            ]

        async def close(self) -> None:
            return

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(resolver=Known(), ssl=trusting())
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
        yield http


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _brief(error: object) -> str:
    return readable(str(error)) or type(error).__name__
