"""The ASGI application: endpoints in, routes out, and every error an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everwhen.aio import Store
from everwhen.state import Fold
from everwhen.store._async.store import check_store
from everwhen.web.access import Access, AccessScope, Caller, OpenAccess
from everwhen.web.api import ENDPOINTS
from everwhen.web.endpoints import ApiCall, Endpoint, text_of
from everwhen.web.governance import Governance
from everwhen.web.guards import Guards
from everwhen.web.hosting import Hosting
from everwhen.web.openapi import openapi_endpoint
from everwhen.web.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_ALLOWED,
    UNAUTHENTICATED,
    UNKNOWN,
    ProblemError,
    ProblemKind,
    problem_answer,
    problem_of,
)

_BELOW_BRANCH: Final = "/branches/{branch}"
_OF_STATUS: Final[Mapping[int, ProblemKind]] = {404: UNKNOWN, 405: NOT_ALLOWED}


def create_app(
    store: Store,
    *,
    folds: Mapping[str, Fold[Any]] | None = None,
    governance: Governance | None = None,
    access: Access | None = None,
    allowed_hosts: Iterable[str] = ("127.0.0.1", "localhost", "[::1]"),
) -> Guards:
    """An ASGI application that serves the store: the HTTP API below ``/v1``.

    Run it by any ASGI server, or mount it in another application. The store is the caller's, to be
    closed after the server has stopped. ``folds`` are the states that can be asked for by name,
    beside ``document`` and ``documents``. ``governance`` has what merges, undo and the like need
    beside the store. Unless ``access`` says otherwise, everybody who reaches
    it may read and nobody may write. A request for a host that isn't in ``allowed_hosts`` is
    refused (against DNS rebinding); a name may begin with ``*.``, and ``*`` allows every one.

    Raises `DeclarationError` for anything but an async store that `open_store` opened.
    """
    hosting = Hosting(check_store(store), folds or {}, governance or Governance())
    endpoints = (*ENDPOINTS, openapi_endpoint(ENDPOINTS))
    who = access or OpenAccess()
    app = Starlette(
        routes=list(_routes(endpoints, hosting, who)),
        exception_handlers={HTTPException: _unrouted, Exception: _failed},
        lifespan=_closing(hosting),
    )
    app.router.redirect_slashes = False
    return Guards(app, allowed_hosts=tuple(allowed_hosts))


def _closing(hosting: Hosting) -> Any:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await hosting.close()

    return lifespan


def _routes(endpoints: Iterable[Endpoint], hosting: Hosting, access: Access) -> Iterable[Route]:
    """A route for each path, which knows its methods; literal paths stand before patterns."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        paths = (
            [endpoint.path, _BELOW_BRANCH + endpoint.path]
            if endpoint.of_branch
            else [endpoint.path]
        )
        for path in paths:
            by_path.setdefault(f"/v1{path}".rstrip("/"), {})[endpoint.method] = endpoint
    for path in sorted(by_path, key=lambda path: ["{" in part for part in path.split("/")]):
        yield Route(path, _handler(by_path[path], hosting, access), methods=list(by_path[path]))


def _handler(
    methods: Mapping[str, Endpoint], hosting: Hosting, access: Access
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        endpoint = methods["GET" if request.method == "HEAD" else request.method]
        try:
            caller = await admitted(request, endpoint.scope, access)
            branch = request.path_params.get("branch") if endpoint.of_branch else None
            on = hosting.main if branch is None else await hosting.at(text_of(branch))
            return await endpoint.handle(ApiCall(request, endpoint, hosting, on, caller))
        except Exception as error:  # noqa: BLE001 (the last boundary)
            return problem_answer(problem_of(error))

    return handle


async def admitted(request: Request, scope: AccessScope, access: Access) -> Caller:
    """Who calls, where they may. Raises `ProblemError`."""
    caller = await access.caller(request)
    if caller is None:
        raise ProblemError(
            UNAUTHENTICATED,
            "give a token: Authorization: Bearer …",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if scope not in caller.scopes:
        raise ProblemError(
            FORBIDDEN, f"this needs the scope {scope!r}; ask whoever runs the server", scope=scope
        )
    return caller


async def _unrouted(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    detail = f"{request.method} {request.url.path}: see /v1/openapi.json for what there is"
    headers = dict(getattr(error, "headers", None) or {})
    return problem_answer(
        ProblemError(_OF_STATUS.get(status, BAD_REQUEST), detail, headers=headers)
    )


async def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return problem_answer(problem_of(error))
