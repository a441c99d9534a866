"""Audit entries on what is changed over HTTP: each change, each refusal, each failure.

The entry is kept before the answer is given. Where it can't be, the caller is told, with the
problem ``unaudited``: repeated with its ``Idempotency-Key``, the change is done once and recorded.
Beside that, each commit has the token's name as its user.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from everwhen.audit.aio import AuditAction, AuditLog, AuditResult
from everwhen.audit.entries import spoken
from everwhen.vocabulary.errors import AuditError, StorageError
from everwhen.web.access import Caller
from everwhen.web.endpoints import Endpoint
from everwhen.web.problems import TIMED_OUT, UNAUDITED, ProblemError, kind_of

_ACTIONS: Final = {"append": AuditAction.CREATE, "sql": AuditAction.READ}


async def audited_answer(
    audit: AuditLog,
    endpoint: Endpoint,
    request: Request,
    caller: Caller,
    answer: Callable[[], Awaitable[Response]],
) -> Response:
    """The answer, with its entry kept. Raises what answering raises, and `ProblemError`."""

    async def record(
        outcome: str, reason: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        deleting = AuditAction.DELETE if endpoint.method == "DELETE" else AuditAction.UPDATE
        entry = audit.entry(
            _ACTIONS.get(endpoint.scope, deleting),
            _resource(request),
            result=AuditResult.SUCCESS if reason is None else AuditResult.FAILURE,
            reason=reason,
            details={"operation": endpoint.name, "outcome": outcome, **(details or {})},
            user=caller.name,
            ip_address=request.client.host if request.client else None,
            user_agent=request.headers.get("user-agent"),
            correlation=request.headers.get("idempotency-key"),
            escape=True,
        )
        await audit.record(entry)

    try:
        given = await answer()
    except GeneratorExit:  # nothing can be awaited any more
        raise
    except BaseException as error:
        try:
            await record(_outcome_of(error), spoken(error))
        except AuditError as lost:
            if isinstance(error, Exception):
                raise
            raise error from lost
        raise
    status = {"status": given.status_code}
    try:
        if given.status_code < 400:
            await record("done", None, status)
        else:
            await record("refused", f"status {given.status_code}", status)
    except AuditError as error:
        raise ProblemError(
            UNAUDITED, f"it was answered with status {given.status_code}, but {error}"
        ) from error
    return given


def _resource(request: Request) -> str:
    root = request.scope.get("root_path", "")
    return str(request.scope["path"]).removeprefix(root).strip("/")


def _outcome_of(error: BaseException) -> str:
    """As of commands: refused, failed, or (the medium's errors, and interrupts) open."""
    problem = kind_of(error)
    if problem == TIMED_OUT:
        return "open"
    if problem is not None and problem.status < 500:
        return "refused"
    is_open = isinstance(error, StorageError | OSError) or not isinstance(error, Exception)
    return "open" if is_open else "failed"
