"""The listeners of the configuration; a reload changes them as a whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from agent.config import Listener
from agent.errors import ConfigError, ConfigProblem
from agent.protocols.openai import error_body

_log = logging.getLogger(__name__)

_BACKLOG = 128
"""Connections that may wait to be taken."""
_REASONS = {
    errno.EADDRINUSE: "{port} is taken by another program; stop it, or choose another port",
    errno.EACCES: "this user may not open port {port}; choose one from 1024 up",
    errno.EADDRNOTAVAIL: "this machine has no address {host}",
}

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}

End = tuple[str, int, bool]
"""Where connections come in: address, port, whether TLS is spoken."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def openable(address: str) -> str:
    """An address that a browser on this box can open: one that means every interface is none."""
    for everywhere, loopback in _LOOPBACK.items():
        address = address.replace(f"://{everywhere}:", f"://{loopback}:")
    return address


@dataclass(frozen=True, eq=False)
class _Door:
    """A listener that is open."""

    listener: Listener
    server: asyncio.Server
    ends: frozenset[End]
    address: str
    """URL of it."""


class Listeners:
    """Owner of the open ones. Each serves the whole application."""

    def __init__(
        self,
        runner: web.AppRunner,
        tls: ssl.SSLContext | None = None,
        inherited: Sequence[socket.socket] = (),
    ) -> None:
        """`tls`: of those that speak it. `inherited`: listening sockets of somebody else; where
        one has a listener's address, it is served there."""
        self._runner = runner
        self._tls = tls
        self._inherited = inherited
        self._doors: list[_Door] = []
        self._ends: frozenset[End] = frozenset()

    @property
    def addresses(self) -> list[str]:
        """Of those in force, in the order of the configuration."""
        return [door.address for door in self._doors]

    async def prepare(self, wanted: Sequence[Listener]) -> ListenersChange:
        """Open those that are new; nobody is served there before the change is committed.

        Raises ConfigError, with everything as it was, naming the keys that change what failed.
        """
        gone, kept = list(self._doors), dict[int, _Door]()
        for i, listener in enumerate(wanted):
            same = next((door for door in gone if door.listener == listener), None)
            if same is not None:
                gone.remove(same)
                kept[i] = same
        fresh = {i: listener for i, listener in enumerate(wanted) if i not in kept}
        # An address can't be opened beside one that covers it: such a listener closes first.
        ports = {listener.port for listener in fresh.values() if listener.port}
        in_the_way = [door for door in gone if door.listener.port in ports]
        for door in in_the_way:
            door.server.close()
        opened: dict[int, _Door] = {}
        problems: list[ConfigProblem] = []
        for i, listener in fresh.items():
            try:
                opened[i] = await self._open(listener)
            except OSError as error:
                problems.append(_problem(i, listener, error))
        change = ListenersChange(self, kept, opened, gone, in_the_way)
        if problems:
            await change.abort()
            raise ConfigError(problems)
        return change

    def close(self) -> None:
        """Take no more connections; open ones go on."""
        for door in self._doors:
            door.server.close()

    def serves(self, request: web.Request) -> bool:
        """Whether the connection of a request came to a listener in force."""
        transport = request.transport
        name = transport.get_extra_info("sockname") if transport is not None else None
        if transport is None or not isinstance(name, tuple):
            return True  # it has gone, or came to the unix socket
        tls = transport.get_extra_info("ssl_object") is not None
        every = "::" if ":" in name[0] else "0.0.0.0"
        return not self._ends.isdisjoint({(name[0], name[1], tls), (every, name[1], tls)})

    def use(self, doors: Sequence[_Door]) -> None:
        """From now on these are in force."""
        self._doors = list(doors)
        self._ends = frozenset(end for door in doors for end in door.ends)

    async def reopen(self, doors: Sequence[_Door]) -> None:
        """Put back what was closed for a change that failed."""
        found: list[_Door] = []
        for door in self._doors:
            if door in doors:
                try:
                    door = await self._open(door.listener)
                except OSError as error:
                    _log.error("the listener %s is lost: %s", door.address, error)
                    continue
            found.append(door)
        self.use(found)

    async def _open(self, listener: Listener) -> _Door:
        """Raises OSError."""
        factory = self._runner.server
        assert factory is not None, "the runner is not set up"
        copy = self._inherited_copy(listener)
        where: dict[str, Any] = {"host": listener.host, "port": listener.port}
        server = await asyncio.get_running_loop().create_server(
            factory,
            ssl=self._tls if listener.tls else None,
            backlog=_BACKLOG,
            **(where if copy is None else {"sock": copy}),
        )
        names = [link.getsockname() for link in server.sockets]
        host = f"[{listener.host}]" if ":" in listener.host else listener.host
        return _Door(
            listener,
            server,
            frozenset((name[0], name[1], listener.tls) for name in names),
            f"{'https' if listener.tls else 'http'}://{host}:{names[0][1]}/",
        )

    def _inherited_copy(self, listener: Listener) -> socket.socket | None:
        """A copy, so that the listener can be closed and opened again."""
        for link in self._inherited:
            here = link.getsockname()[:2] == (listener.host, listener.port)
            if link.family != socket.AF_UNIX and here:
                return link.dup()
        return None


@dataclass(frozen=True)
class ListenersChange:
    """Listeners that are open and wait for `commit` or `abort`."""

    owner: Listeners
    kept: dict[int, _Door]
    """By their place in the configuration, as the next."""
    opened: dict[int, _Door]
    gone: list[_Door]
    in_the_way: list[_Door]
    """Of those that go: closed already."""

    def commit(self) -> None:
        """The new ones serve, the removed ones close; what streams there goes on to its end."""
        doors = self.kept | self.opened
        self.owner.use([doors[i] for i in sorted(doors)])
        for door in self.gone:
            door.server.close()
            _log.info("no longer listening on %s", door.address)

    async def abort(self) -> None:
        """Everything as it was."""
        for door in self.opened.values():
            door.server.close()
        if self.in_the_way:
            await self.owner.reopen(self.in_the_way)


LISTENERS: web.AppKey[Listeners] = web.AppKey("listeners", Listeners)
"""Absent where an application is served by other means."""


@web.middleware
async def turn_away(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A connection may outlive its listener, or come before a new one is in force: nothing is
    asked for over it any more."""
    listeners = request.app.get(LISTENERS)
    if listeners is None or listeners.serves(request):
        return await handler(request)
    said = error_body("misdirected", "the box does not listen here any more; connect again")
    response = web.json_response(said, status=web.HTTPMisdirectedRequest.status_code)
    response.force_close()
    return response


def _problem(i: int, listener: Listener, error: OSError) -> ConfigProblem:
    reason = _REASONS.get(error.errno or 0, "can't be opened: " + (error.strerror or str(error)))
    of_host = error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror)
    key = f"listen.{i}.host" if of_host else f"listen.{i}.port"
    return ConfigProblem(key, reason.format(host=listener.host, port=listener.port))
