"""Who may do what: every request passes `guard` before its handler sees it."""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote, urlsplit

from aiohttp import web

from agent.config import Config, is_loopback
from agent.errors import ConfigError, ConfigProblem
from agent.networks import is_in, networks_of, parse_address
from agent.web.peer import (
    HOST,
    Peer,
    is_direct,
    is_own_host,
    is_upgrade,
    is_visit,
    peer_of,
)
from agent.web.throttle import Throttle
from agent.web.tls import local_addresses
from agent.web.token import TokenError, TokenKeeper

_log = logging.getLogger(__name__)

COOKIE = "__Host-funasr-agent"
"""The prefix has browsers take it over https only, for this host and the whole of it."""
SIGN_IN = "/sign-in"
OPEN_ROUTES = frozenset({"/livez", "/readyz", SIGN_IN, SIGN_IN + "/{name}"})
"""Routes that need nothing, by the router's own name: no spelling of a path leads around them."""
FUNASR_ROUTES = frozenset({"/", "/ws"})
METRICS_ROUTES = frozenset({"/health", "/metrics"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_DAY_S = 86400

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Grant(enum.Enum):
    """On what ground a request was let in."""

    OWNER = "owner"
    """Over the unix socket."""
    FREE = "free"
    """From this machine, or `auth: open`."""
    COOKIE = "cookie"
    TOKEN = "token"
    FUNASR = "funasr"
    """From one of `funasr.allow`: FunASR's protocol and nothing else."""
    METRICS = "metrics"
    """From one of `auth.open_metrics`: /health and /metrics and nothing else."""
    NOBODY = "nobody"
    """Open to everyone."""


GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)
"""A request's `Grant`."""


class Access:
    """The rules of a configuration, and the token in force."""

    def __init__(
        self,
        config: Config,
        tokens: TokenKeeper,
        *,
        peer: Callable[[web.Request], Peer] = peer_of,
        throttle: Throttle | None = None,
    ) -> None:
        self.tokens = tokens
        self.peer = peer
        self._throttle = throttle or Throttle(config.auth.attempts_per_minute)
        self._tls: list[tuple[str, int]] = []
        self.use(config)

    def use(self, config: Config) -> None:
        """From now on the rules of this configuration. Who is signed in stays so for the days
        that were promised then; another token ends that."""
        self._days = config.auth.session_days
        self._is_open = config.auth.mode == "open"
        self._funasr = networks_of(config.funasr.allow)
        self._metrics = networks_of(config.auth.open_metrics)
        self._throttle.allow(config.auth.attempts_per_minute)

    def serves(self, addresses: Sequence[str]) -> None:
        """Told the addresses of the listeners once they are open."""
        parts = [urlsplit(address) for address in addresses]
        self._tls = [(p.hostname or "", p.port or 443) for p in parts if p.scheme == "https"]

    def invitations(self) -> list[str]:
        """Addresses that open the page signed in, for every address of the box that other
        machines may reach; over TLS only."""
        found: list[str] = []
        for host, port in self._tls:
            address = parse_address(host)
            hosts = _lan_addresses() if address is not None and address.is_unspecified else [host]
            shown = (f"[{name}]" if ":" in name else name for name in hosts)
            found += [f"https://{name}:{port}/?token={quote(self.tokens.token)}" for name in shown]
        return found

    def grant(self, request: web.Request) -> Grant:
        """Raises HTTPUnauthorized, HTTPTooManyRequests."""
        ground, offered = self._ground(request), _offered(request)
        if ground is not None:
            return ground
        if offered is not None:
            self.require_token(request, offered)
            return Grant.TOKEN
        peer, why = self.peer(request), "this needs the box's token"
        if peer.is_loopback and is_direct(request):
            why += ", since the Host header is no name of this box (127.0.0.1 and localhost are)"
        raise unauthorized(
            f"{why}: Authorization: Bearer TOKEN, or ?token=TOKEN; "
            "`funasr-agent token show` prints it on the box"
        )

    def still_lets_in(self, request: web.Request) -> bool:
        """Whether a request that was let in would be by the rules in force; no guess is counted."""
        offered = _offered(request)
        has_token = offered is not None and self.tokens.is_token(offered)
        return has_token or self._ground(request) is not None

    def require_token(self, request: web.Request, offered: str) -> None:
        """Raises HTTPUnauthorized for a wrong token, HTTPTooManyRequests after too many."""
        address = self.peer(request).address
        if wait_s := self._throttle.wait_s(address):
            raise web.HTTPTooManyRequests(
                text=f"too many wrong tokens from this address; try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )
        if not self.tokens.is_token(offered):
            self._throttle.failed(address)
            raise unauthorized("the token is wrong; `funasr-agent token show` prints it on the box")

    def has_cookie(self, request: web.Request) -> bool:
        """Whether the browser is signed in."""
        value = request.cookies.get(COOKIE)
        return value is not None and self.keeps_cookies(request) and self.tokens.is_cookie(value)

    def keeps_cookies(self, request: web.Request) -> bool:
        """Whether a sign-in is safe on this way: never in the clear over a network."""
        peer = self.peer(request)
        return peer.tls or peer.is_loopback

    def sign_in(self, response: web.StreamResponse) -> None:
        """Give the browser its cookie."""
        value, age_s = self.tokens.make_cookie(self._days), int(self._days * _DAY_S)
        response.set_cookie(
            COOKIE, value, max_age=age_s, path="/", secure=True, httponly=True, samesite="Strict"
        )

    def sign_out(self, response: web.StreamResponse) -> None:
        """Take it back."""
        response.set_cookie(
            COOKIE, "", max_age=0, path="/", secure=True, httponly=True, samesite="Strict"
        )

    def https_address(self, request: web.Request) -> str | None:
        """Where the same page is over TLS, for a request that came in the clear; None: nowhere."""
        peer = self.peer(request)
        if peer.tls or peer.unix or peer.is_loopback:
            return None
        host = HOST.fullmatch(request.headers.get("Host", ""))
        port = next((p for h, p in self._tls if _reaches(h, peer)), None)
        if host is None or port is None:
            return None
        return f"https://{host[1]}{'' if port == 443 else f':{port}'}{request.rel_url.raw_path_qs}"

    def _ground(self, request: web.Request) -> Grant | None:
        """On what ground a request is let in without the token; None: on none."""
        peer, route = self.peer(request), _route(request)
        if peer.unix:
            return Grant.OWNER
        local = peer.is_loopback and is_direct(request)
        if self._is_open or (local and is_own_host(request)):
            return Grant.FREE
        if self.has_cookie(request):
            return Grant.COOKIE
        if route in FUNASR_ROUTES and is_upgrade(request):
            if local or is_in(peer.address, self._funasr):
                return Grant.FUNASR
        elif route in METRICS_ROUTES and is_in(peer.address, self._metrics):
            return Grant.METRICS
        return Grant.NOBODY if route in OPEN_ROUTES else None


def token_of(config: Config) -> str | None:
    """The token of the state folder, made where there is none; blocks.

    None where it can't be kept and isn't needed, since only this machine is served or everyone
    is. Raises ConfigError where it is needed.
    """
    try:
        return TokenKeeper.of(config.state_dir).token
    except TokenError as error:
        if _served(config) and config.auth.mode != "open":
            raise ConfigError([ConfigProblem("state_dir", error.message)]) from None
        _log.warning("%s", error.message)
        return None


def warn_of(config: Config) -> None:
    """Say in the log what of the rules may surprise."""
    served = _served(config)
    if served and config.auth.mode == "open":
        _log.warning("auth: open: everyone who reaches %s is served", ", ".join(served))
    elif served and not any(item.tls for item in config.listen):
        _log.warning(
            "browsers on other machines can't sign in over plain http: add a listener with "
            "tls: true"
        )


def _served(config: Config) -> list[str]:
    """Hosts off loopback."""
    return [item.host for item in config.listen if not is_loopback(item.host)]


ACCESS: web.AppKey[Access] = web.AppKey("access", Access)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Foreign pages are refused, browsers go to https, and everyone shows what they have."""
    access = request.app[ACCESS]
    route, visits = _route(request), is_visit(request)
    if is_upgrade(request) or request.method not in _SAFE:
        check_origin(request, access.peer(request), allow_local_files=route in FUNASR_ROUTES)
    if visits and route not in ("/livez", "/readyz"):
        address = access.https_address(request)
        if address is not None:
            raise web.HTTPTemporaryRedirect(address)
    try:
        request[GRANT] = access.grant(request)
    except web.HTTPUnauthorized:
        if not visits:
            raise
        raise web.HTTPSeeOther(_sign_in_page(request)) from None
    if visits and request[GRANT] is Grant.TOKEN and access.keeps_cookies(request):
        return _signed_in(request, access)
    return await handler(request)


def check_origin(request: web.Request, peer: Peer, *, allow_local_files: bool = False) -> None:
    """Refuse a foreign page with 403.

    Programs send no Origin and are let in. Pages must come from this box itself;
    `allow_local_files` lets in pages opened from a disk (Origin `null`) on the box itself, as
    FunASR's html5 client is used.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return
    if origin == "null":
        if allow_local_files and peer.is_loopback:
            return
    elif origin.partition("://")[2].lower() == request.headers.get("Host", "").lower():
        return
    raise web.HTTPForbidden(text=f"pages from {origin[:200]} may not use this box")


def unauthorized(reason: str) -> web.HTTPUnauthorized:
    """401 with the header that HTTP wants."""
    return web.HTTPUnauthorized(
        text=reason, headers={"WWW-Authenticate": 'Bearer realm="funasr-agent"'}
    )


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


def _offered(request: web.Request) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value
    return request.query.get("token")


def _signed_in(request: web.Request, access: Access) -> web.Response:
    """The same page again, the token no longer in the address bar and in the history."""
    response = web.Response(status=303)
    clean = request.rel_url.without_query_params("token")
    response.headers["Location"] = clean.raw_path_qs
    access.sign_in(response)
    return response


def _sign_in_page(request: web.Request) -> str:
    if "token" in request.query:
        return f"{SIGN_IN}?refused=token"
    path = request.rel_url.raw_path_qs
    return SIGN_IN if path == "/" else f"{SIGN_IN}?next={quote(path, safe='')}"


def _lan_addresses() -> list[str]:
    found = [(text, parse_address(text)) for text in local_addresses()]
    v4 = [text for text, address in found if address and address.version == 4]
    return [text for text in v4 if not text.startswith("127.")] or ["127.0.0.1"]


def _reaches(host: str, peer: Peer) -> bool:
    """Whether a listener on `host` is reached at the address that this request came to."""
    address = parse_address(host)
    if address is None:
        return host != "localhost"
    if address.is_unspecified:  # asyncio opens `::` for IPv6 alone
        return peer.local is not None and address.version == peer.local.version
    return address == peer.local
