"""The ASGI application: endpoints in, routes out, and every error an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from everwhen.aio import Store
from everwhen.audit.aio import AuditLog
from everwhen.state import Fold
from everwhen.store._async.store import check_store
from everwhen.web.access import Access, AccessScope, Caller, OpenAccess
from everwhen.web.api import ENDPOINTS
from everwhen.web.api.session import session_endpoints
from everwhen.web.auditing import audited_answer
from everwhen.web.compression import compress
from everwhen.web.endpoints import ApiCall, Endpoint, text_of
from everwhen.web.governance import Governance
from everwhen.web.guards import Guards
from everwhen.web.hosting import Hosting
from everwhen.web.limits import RequestLimits
from everwhen.web.openapi import openapi_endpoint
from everwhen.web.page import page_routes
from everwhen.web.path_table import PathTable
from everwhen.web.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_ALLOWED,
    TIMED_OUT,
    UNAUTHENTICATED,
    UNKNOWN,
    ProblemError,
    ProblemKind,
    problem_answer,
    problem_of,
)
from everwhen.web.token_access import TokenAccess

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_LIMITS: Final = RequestLimits()
_FOREIGN_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
)
_SHOWN_HEADERS: Final = ("ETag", "Idempotency-Key", "Location", "Retry-After")
_BELOW_BRANCH: Final = "/branches/{branch}"
_OF_STATUS: Final[Mapping[int, ProblemKind]] = {404: UNKNOWN, 405: NOT_ALLOWED}


def create_app(
    store: Store,
    *,
    folds: Mapping[str, Fold[Any]] | None = None,
    governance: Governance | None = None,
    audit: AuditLog | None = None,
    access: Access | None = None,
    allowed_hosts: Iterable[str] = LOOPBACK_NAMES,
    cors: Iterable[str] = (),
    limits: RequestLimits = _LIMITS,
) -> Guards:
    """An ASGI application that serves the store: the HTTP API below ``/v1``, and the page.

    Run it by any ASGI server, or mount it in another application. The store is the caller's, to be
    closed after the server has stopped. ``folds`` are the states that can be asked for by name,
    beside ``document`` and ``documents``. ``governance`` has what merges, undo and the like need
    beside the store. With an ``audit`` log, an async one over this store, whatever asks for more
    than reading has an entry there with the caller's name.

    Unless ``access`` says otherwise, everybody who reaches it may read and nobody may write. A
    request for a host that isn't in ``allowed_hosts`` is refused (against DNS rebinding); a name
    may begin with ``*.``, and ``*`` allows every one. Pages of other sites may ask only if their
    origin, such as ``https://dash.example``, is in ``cors``; they show a token, not a cookie.

    Raises `DeclarationError` for anything but an async store that `open_store` opened.
    """
    hosting = Hosting(
        check_store(store),
        folds or {},
        governance=governance or Governance(),
        audit=audit,
        limits=limits,
    )
    who = access or OpenAccess()
    own = session_endpoints(who) if isinstance(who, TokenAccess) else ()
    endpoints = (*ENDPOINTS, *own, openapi_endpoint((*ENDPOINTS, *own)))
    origins = tuple(cors)
    page = Starlette(
        routes=[*page_routes()],
        exception_handlers={HTTPException: _unrouted, Exception: _failed},
        lifespan=_closing(hosting),
    )
    page.router.redirect_slashes = False
    app: ASGIApp = _Api(endpoints, hosting, who, page)
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=_FOREIGN_HEADERS,
            expose_headers=_SHOWN_HEADERS,
        )
    return Guards(app, hosting, allowed_hosts=allowed_hosts, origins=origins)


def _closing(hosting: Hosting) -> Any:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await hosting.close()

    return lifespan


def _methods(endpoints: Iterable[Endpoint]) -> Mapping[str, Mapping[str, Endpoint]]:
    """For each path its endpoints, by their methods."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        paths = (
            [endpoint.path, _BELOW_BRANCH + endpoint.path]
            if endpoint.of_branch
            else [endpoint.path]
        )
        for path in paths:
            methods = by_path.setdefault(f"/v1{path}".rstrip("/"), {})
            methods[endpoint.method] = endpoint
            if endpoint.method == "GET":
                methods["HEAD"] = endpoint
    return by_path


class _Api:
    """The endpoints, as an ASGI application; what no path of theirs fits is left to another one.

    From a request to its endpoint's answer: who may, for how long, and what is recorded. It stands
    right below the guards: a router and middleware of Starlette's between them would take longer
    than an append does.
    """

    def __init__(
        self, endpoints: Iterable[Endpoint], hosting: Hosting, access: Access, others: ASGIApp
    ) -> None:
        self._paths = PathTable(_methods(endpoints))
        self._hosting = hosting
        self._access = access
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        found = None
        if scope["type"] == "http":
            found = self._paths.find(scope["path"].removeprefix(scope.get("root_path", "")))
        if found is None:
            await self._others(scope, receive, send)
            return
        methods, parameters = found
        scope["path_params"] = {**scope.get("path_params", {}), **parameters}
        request = Request(scope, receive)
        response = await self._answer(request, methods)
        await compress(request, response)
        await response(scope, receive, send)

    async def _answer(self, request: Request, methods: Mapping[str, Endpoint]) -> Response:
        """The endpoint's answer, or the problem that it ends with."""
        endpoint = methods.get(request.method)
        if endpoint is None:
            return problem_answer(_unknown(NOT_ALLOWED, request, {"Allow": ", ".join(methods)}))
        try:
            caller = await known(request, self._access)
            audit = self._hosting.audit
            if audit is None or endpoint.scope == "read":
                return await self._in_time(request, endpoint, caller)
            return await audited_answer(
                audit,
                endpoint,
                request,
                caller,
                partial(self._in_time, request, endpoint, caller),
            )
        except Exception as error:  # noqa: BLE001 (the last boundary)
            return problem_answer(problem_of(error))

    async def _in_time(self, request: Request, endpoint: Endpoint, caller: Caller) -> Response:
        check_scope(endpoint.scope, caller)
        hosting = self._hosting
        seconds = hosting.limits.request_seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                branch = request.path_params.get("branch") if endpoint.of_branch else None
                on = hosting.main if branch is None else await hosting.at(text_of(branch))
                answer = await endpoint.handle(ApiCall(request, endpoint, hosting, on, caller))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ProblemError(
                TIMED_OUT,
                f"not done within {seconds:g} seconds; ask for less at a time, and repeat a change "
                f"with the same Idempotency-Key",
            ) from error
        return hosting.live.counted(request, caller, answer) if endpoint.is_live else answer


async def known(request: Request, access: Access) -> Caller:
    """Who calls. Raises `ProblemError` where they don't say it."""
    caller = await access.caller(request)
    if caller is None:
        raise ProblemError(
            UNAUTHENTICATED,
            "give a token: Authorization: Bearer …",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return caller


def check_scope(scope: AccessScope, caller: Caller) -> None:
    """Raises `ProblemError` where the caller doesn't have it."""
    if scope not in caller.scopes:
        raise ProblemError(
            FORBIDDEN, f"this needs the scope {scope!r}; ask whoever runs the server", scope=scope
        )


async def _unrouted(request: Request, error: Exception) -> Response:
    kind = _OF_STATUS.get(getattr(error, "status_code", 404), BAD_REQUEST)
    return problem_answer(_unknown(kind, request, getattr(error, "headers", None)))


def _unknown(
    kind: ProblemKind, request: Request, headers: Mapping[str, str] | None
) -> ProblemError:
    detail = f"{request.method} {request.url.path}: see /v1/openapi.json for what there is"
    return ProblemError(kind, detail, headers=dict(headers or {}))


async def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return problem_answer(problem_of(error))
