"""A server of its own for one store: what ``everwhen serve`` runs."""

from __future__ import annotations

import inspect
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvicorn
from starlette.types import ASGIApp

from everwhen.aio import CommandBus, Decisions, EventTypes, Store, open_store
from everwhen.audit.aio import AuditEntry, AuditFilter, AuditLog
from everwhen.errors import DeclarationError
from everwhen.merging import Invariant
from everwhen.merkle.tile_stores import CHECKPOINT, TileFolder
from everwhen.privacy import PLAINTEXT, Vault
from everwhen.projections import Projection, TableProjection
from everwhen.projections.aio import ProjectionRunner
from everwhen.state import Fold
from everwhen.undo import Compensations
from everwhen.vocabulary.personal_data import Plaintext
from everwhen.web.access import AccessScope
from everwhen.web.application import LOOPBACK_NAMES, create_app
from everwhen.web.connections import CarefulConnection
from everwhen.web.governance import Governance
from everwhen.web.guards import Guards
from everwhen.web.token_access import TokenAccess
from everwhen.web.tokens import AccessToken

if TYPE_CHECKING:
    from everwhen.merkle.aio import MerkleLog

_ENDING_SECONDS: Final = 1
"""How long answers that are being given may take once the server is to stop."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, to whom, and how.

    ``app`` is given the open store and what `create_app` gets beside it, and returns what that
    makes. ``projections`` are kept up to date while it serves. ``log`` is the folder of a signed
    log; without it, the one beside ``store_file`` is served, if it is there.
    """

    location: str
    branch: str | None = None
    events: EventTypes | None = None
    vault: Vault | None = None
    folds: Sequence[Fold[Any]] = ()
    decisions: Decisions | None = None
    invariants: Sequence[Invariant[Any]] = ()
    compensations: Compensations | None = None
    projections: Sequence[Projection[Any] | TableProjection] = ()
    log: Path | None = None
    store_file: Path | None = None
    app: Callable[..., Any] | None = None
    scopes: frozenset[AccessScope] = frozenset({"read"})
    tokens: tuple[AccessToken, ...]
    is_audited: bool = False
    allowed_hosts: Sequence[str] = ()
    cors: Sequence[str] = ()
    behind_tls: bool = False
    certificate: Path | None = None
    private_key: Path | None = None

    @property
    def writes(self) -> bool:
        """Whether anything may be changed."""
        return not self.scopes <= {"read", "sql"}


def listen(host: str, port: int) -> socket.socket:
    """A socket at that address; port 0 is a free one. Raises ``OSError``."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # asyncio sends small parts at once (TCP_NODELAY) only where the protocol is named; otherwise
    # each answer's content would wait some 40 ms for the client to acknowledge its headers
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


async def serve(served: Served, listening: socket.socket, started: Callable[[], None]) -> int:
    """Serve until SIGINT or SIGTERM, which is returned; ``started`` is called once it answers.

    Raises what `open_store` raises, and `DeclarationError` where ``app`` makes something else.
    """
    async with AsyncExitStack() as opened:
        store = await opened.enter_async_context(await _store(served))
        if served.branch is not None and served.branch != store.name:
            store = await opened.enter_async_context(await store.branch(served.branch))
        runner: ProjectionRunner | None = None
        if served.projections:
            runner = ProjectionRunner(store, served.projections)
            await opened.enter_async_context(runner)
        app = await _application(served, store, runner)
        config = server_config(app, ssl_certfile=served.certificate, ssl_keyfile=served.private_key)
        server = _Server(config, app, started)
        await server.serve(sockets=[listening])
        return server.ended_by


def server_config(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """How uvicorn serves an application here; ``more`` is as uvicorn has it."""
    return uvicorn.Config(
        app,
        http=CarefulConnection,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_ENDING_SECONDS,
        **more,
    )


async def _store(served: Served) -> Store:
    events = EventTypes() if served.events is None else served.events
    vault: Vault | Plaintext | None = served.vault
    if served.is_audited and AuditEntry not in events.current():
        if not events.with_personal_data:  # entries are the only ones then
            vault = vault or PLAINTEXT
        events = events.including(AuditEntry)
    return await open_store(
        served.location, events=events, vault=vault, read_only=not served.writes
    )


async def _application(served: Served, store: Store, runner: ProjectionRunner | None) -> Guards:
    given: dict[str, Any] = {
        "access": TokenAccess(served.tokens, most=served.scopes, behind_tls=served.behind_tls),
        "allowed_hosts": (*LOOPBACK_NAMES, *served.allowed_hosts),
        "cors": served.cors,
    }
    if served.is_audited:
        given["audit"] = AuditLog(store, policy=lambda _: [AuditFilter()])
    governance = _governance(served, store, runner)
    if governance != Governance():
        given["governance"] = governance
    if served.folds:
        given["folds"] = _by_name(served.folds)
    made = (served.app or create_app)(store, **given)
    app = await made if inspect.isawaitable(made) else made
    if not isinstance(app, Guards):
        raise DeclarationError(
            f"the application is {type(app).__name__}; return what create_app(store, …) returns"
        )
    return app


def _governance(served: Served, store: Store, runner: ProjectionRunner | None) -> Governance:
    decisions = served.decisions
    return Governance(
        decisions=decisions,
        invariants=served.invariants,
        compensations=served.compensations,
        runner=runner,
        commands=None if decisions is None else CommandBus(store, decisions),
        log=_signed_log(served, store),
    )


def _signed_log(served: Served, store: Store) -> MerkleLog | None:
    if served.log is not None:
        tiles = TileFolder(served.log)
    elif served.store_file is not None and find_spec("cryptography") is not None:
        tiles = TileFolder.beside(served.store_file, store.branch_info)
        if tiles.read(CHECKPOINT) is None:
            return None
    else:
        return None
    from everwhen.merkle.aio import MerkleLog  # needs a library that not everybody has

    return MerkleLog(store, tiles)


def _by_name(folds: Sequence[Fold[Any]]) -> Mapping[str, Fold[Any]]:
    named = {fold.name: fold for fold in folds}
    if len(named) < len(folds):
        raise DeclarationError("two folds have one name; give each its own")
    return named


class _Server(uvicorn.Server):
    """It ends by a signal, without sending itself that signal again, and so do live answers."""

    def __init__(self, config: uvicorn.Config, app: Guards, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.ended_by = 0
        self._guards = app
        self._started = started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.ended_by = self.ended_by or sig
        super().handle_exit(sig, frame)

    async def main_loop(self) -> None:
        self._started()
        await super().main_loop()
        self._guards.end_live_answers()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        own = {one: signal.signal(one, self.handle_exit) for one in _SIGNALS}
        try:
            yield
        finally:
            for one, handler in own.items():
                signal.signal(one, handler)
