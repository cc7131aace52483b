"""Posts to a webhook on the local network, and nowhere else."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from agent.networks import LOCAL, is_in, parse_address
from agent.ops.hook_failed import HookFailed

_BUSY = (408, 425, 429)
"""Refusals after which another try makes sense, beside 5xx."""


class Webhook:
    """One client; its connections are kept while they are used. Used on the loop only."""

    def __init__(self) -> None:
        self._client: aiohttp.ClientSession | None = None

    async def post(self, url: str, data: bytes, timeout_s: float) -> None:
        """Deliver JSON. Raises HookFailed, whose message names the host and no more of the URL,
        which may hold a secret."""
        host = urlsplit(url).hostname or ""
        try:
            async with self._open().post(
                url,
                data=data,
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as answer:
                status = answer.status
        except (asyncio.TimeoutError, aiohttp.ServerTimeoutError):
            raise HookFailed(f"{host} did not answer in {timeout_s:g} s", again=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HookFailed(f"{host} can't be reached: {_reason(error)}", again=True) from None
        if not 200 <= status < 300:
            raise HookFailed(f"{host} answered {status}", again=status >= 500 or status in _BUSY)

    async def close(self) -> None:
        """End its connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._client is None:
            connector = aiohttp.TCPConnector(resolver=LocalResolver(), use_dns_cache=False)
            self._client = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._client


class LocalResolver(AbstractResolver):
    """Finds addresses of the local network only: nothing that was said leaves it by mistake."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        """`inner` asks the system unless another one is given."""
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host` that are local. Raises OSError where there is none."""
        found = await self._inner.resolve(host, port, family)
        local = [one for one in found if is_in(parse_address(one["host"]), LOCAL)]
        if not local:
            raise OSError(f"{host} is at no address of a local network")
        return local

    async def close(self) -> None:
        """End the inner one."""
        await self._inner.close()


def _reason(error: Exception) -> str:
    """The cause in words, without the URL."""
    cause = getattr(error, "os_error", None) or error.__cause__ or error
    words = getattr(cause, "strerror", None) or str(cause)
    return words if words and "://" not in words else type(error).__name__
