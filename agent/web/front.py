"""The web side as one: application, listeners, who may use them, certificate."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config
from agent.web.access import Access, token_of, warn_of
from agent.web.application import build_application
from agent.web.certificates import Certificate, CertificateKeeper
from agent.web.context import WebContext
from agent.web.doorkeeper import make_runner
from agent.web.listeners import LISTENERS, Listeners, ListenersChange
from agent.web.local_socket import open_local_socket
from agent.web.sign_in import close_barred, watch_token
from agent.web.token import TokenKeeper, new_token

_log = logging.getLogger(__name__)


class Front:
    """Opened once; a reload changes it as a whole or not at all. Used on the event loop."""

    def __init__(self, context: WebContext, inherited: Sequence[socket.socket] = ()) -> None:
        """`inherited`: see `Listeners`."""
        config = context.config
        self._context = context
        # A token that nobody knows, until the state folder's has been read.
        self._access = Access(config, TokenKeeper(new_token()))
        self._certificates = CertificateKeeper(config)
        self._app = build_application(context, self._access, self._certificates)
        self._runner = make_runner(self._app, config.stream.max_sessions)
        self._listeners = Listeners(self._runner, self._certificates.context, inherited)
        self._app[LISTENERS] = self._listeners
        self._socket: Path | None = None

    async def open(self) -> list[str]:
        """Open the listeners and the socket of the commands; the addresses. Raises ConfigError."""
        config = self._context.config
        await self._runner.setup()
        (await self.prepare(config)).commit()
        self._socket = await open_local_socket(self._runner, config)
        return self._listeners.addresses

    async def prepare(self, config: Config) -> FrontChange:
        """Everything that may fail in taking `config`. Raises AgentError, nothing changed."""
        token = await asyncio.to_thread(token_of, config)
        certificate = None
        if any(listener.tls for listener in config.listen):
            certificate = await asyncio.to_thread(self._certificates.read, config.tls)
        return FrontChange(
            self, config, token, certificate, await self._listeners.prepare(config.listen)
        )

    def take(self, change: FrontChange) -> None:
        """From now on the change is in force, for everyone who is here too."""
        before = self._listeners.addresses
        self._certificates.take(change.certificate)
        self._access.use(change.config)
        if change.token is not None:
            self._access.tokens.use(change.token)
        change.listeners.commit()
        self._access.serves(self._listeners.addresses)
        close_barred(self._app)
        warn_of(change.config)
        for address in self._listeners.addresses:
            if before and address not in before:
                _log.info("now listening on %s", address)

    def invitations(self) -> list[str]:
        """Where other machines open the page, signed in by the address; for its owner's eyes."""
        return self._access.invitations()

    async def watch_token(self, every_s: float) -> None:
        """Take a token that was put into the state folder; for ever."""
        await watch_token(self._app, every_s)

    async def watch_certificate(self, every_s: float) -> None:
        """Renew the certificate where it is due; for ever."""
        await self._certificates.watch(every_s)

    def leave(self) -> None:
        """Remove the socket of the commands while it is ours: later it could be that of the next
        agent."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.unlink()

    async def close(self) -> None:
        """Take no more connections, end those that are open with their finals."""
        self._listeners.close()
        await self._runner.cleanup()


@dataclass(frozen=True)
class FrontChange:
    """A configuration that the web side can take."""

    front: Front
    config: Config
    token: str | None
    certificate: Certificate | None
    listeners: ListenersChange

    def commit(self) -> None:
        """Take it."""
        self.front.take(self)

    async def abort(self) -> None:
        """Everything as it was."""
        await self.listeners.abort()
