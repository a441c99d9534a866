"""Errors as RFC 9457 problem details: what was wrong, where, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.responses import Response

from everwhen.codec.json_encoding import encode_json
from everwhen.merging.merge_plan import MergeError
from everwhen.vocabulary import errors

TYPES: Final = "https://github.com/everwhen/everwhen/blob/main/docs/reference/problems.md#"
"""Where a problem's type leads: a page of the documentation, with a section for each."""

_LOG: Final = logging.getLogger("everwhen.web")
_RETRY_SECONDS: Final = 1


class ProblemKind(msgspec.Struct, frozen=True):
    """A kind of problem: its status, its name in ``type``, and its title, which never changes."""

    status: int
    name: str
    title: str


class ProblemError(Exception):
    """Ends a request with a problem. ``members`` are its extension members."""

    def __init__(
        self,
        problem: ProblemKind,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.headers = headers or {}
        self.members = members


BAD_REQUEST: Final = ProblemKind(400, "bad-request", "The request can't be read")
UNAUTHENTICATED: Final = ProblemKind(401, "unauthenticated", "Say who you are")
FORBIDDEN: Final = ProblemKind(403, "forbidden", "You may not")
UNKNOWN: Final = ProblemKind(404, "unknown", "There is no such thing")
NOT_ALLOWED: Final = ProblemKind(405, "method-not-allowed", "That can't be done there")
NOT_ACCEPTABLE: Final = ProblemKind(406, "not-acceptable", "There is no such form")
FAILED_PRECONDITION: Final = ProblemKind(
    412, "failed-precondition", "The precondition does not hold"
)
TOO_LARGE: Final = ProblemKind(413, "too-large", "The request is too large")
UNSUPPORTED_MEDIA: Final = ProblemKind(415, "unsupported-media-type", "Not that kind of content")
INVALID: Final = ProblemKind(422, "invalid", "The content is not valid")
TOO_MANY: Final = ProblemKind(429, "too-many", "Too many at once")
EXPRESSION: Final = ProblemKind(400, "expression", "The expression can't be evaluated")
BEYOND_END: Final = ProblemKind(409, "beyond-end", "The log ends before that position")
RETIRED: Final = ProblemKind(410, "retired", "That history is no longer kept")
SEALED: Final = ProblemKind(403, "sealed", "Personal data that can't be opened here")
PLAN_CHANGED: Final = ProblemKind(409, "plan-changed", "It would come out otherwise by now")
MERGE_CONFLICT: Final = ProblemKind(409, "merge-conflict", "The merge has to be settled")
BRANCH_REFUSED: Final = ProblemKind(409, "branch-refused", "The branch can't be made or changed")
UNDO_REFUSED: Final = ProblemKind(409, "undo-refused", "It can't be undone")
LEASED: Final = ProblemKind(409, "leased", "Another runner works on that")
MERKLE_LOG: Final = ProblemKind(409, "merkle-log", "The signed log can't do that")
REFUSED: Final = ProblemKind(409, "refused", "The command was refused")
HEADERS_TOO_LARGE: Final = ProblemKind(431, "headers-too-large", "The headers are too large")
TIMED_OUT: Final = ProblemKind(503, "timed-out", "It took too long")
UNAUDITED: Final = ProblemKind(500, "unaudited", "The audit entry can't be kept")
UNSUPPORTED: Final = ProblemKind(501, "unsupported", "This store can't do that")
STATEMENT: Final = ProblemKind(400, "statement", "The statement can't be run")
STATEMENT_LIMIT: Final = ProblemKind(422, "statement-limit", "The statement takes too much")
FAULT: Final = ProblemKind(500, "fault", "Something failed here")

CONFLICT: Final = ProblemKind(409, "conflict", "A stream is not where it was believed to be")
CONDITION: Final = ProblemKind(409, "condition-failed", "The condition no longer holds")
UNAVAILABLE: Final = ProblemKind(503, "unavailable", "Not now")

OF_ERRORS: Final[tuple[tuple[type[BaseException], ProblemKind], ...]] = (
    (errors.ConflictError, CONFLICT),
    (errors.ConditionError, CONDITION),
    (
        errors.CommitIdError,
        ProblemKind(422, "commit-id-used", "The key was used for other content"),
    ),
    (errors.InlineError, ProblemKind(409, "refused-inline", "A read model can't take the event")),
    (errors.NotAllowedError, FORBIDDEN),
    (errors.UndoError, UNDO_REFUSED),
    (errors.Refusal, REFUSED),
    (errors.ErasedSubjectError, ProblemKind(409, "erased-subject", "That person was forgotten")),
    (errors.RefusedError, INVALID),
    (errors.UnknownBranchError, UNKNOWN),
    (MergeError, MERGE_CONFLICT),
    (errors.BranchError, BRANCH_REFUSED),
    (errors.InvalidQueryError, BAD_REQUEST),
    (errors.BeyondEndError, BEYOND_END),
    (errors.InvalidPathError, BAD_REQUEST),
    (errors.TooDeepError, INVALID),
    (errors.ExpressionError, EXPRESSION),
    (errors.StaleError, ProblemKind(503, "stale", "The read model has not come that far")),
    (errors.LeaseError, LEASED),
    (errors.SealedError, SEALED),
    (errors.RetiredError, RETIRED),
    (errors.UnsupportedError, UNSUPPORTED),
    (errors.BusyError, UNAVAILABLE),
    (errors.StatementLimitError, STATEMENT_LIMIT),
    (errors.StatementError, STATEMENT),
    (errors.ReadOnlyError, ProblemKind(403, "read-only", "The store can't be written to")),
    (errors.StorageFullError, ProblemKind(507, "storage-full", "No space left")),
    (errors.CorruptStoreError, ProblemKind(500, "corrupt", "The store is damaged")),
    (errors.StoreClosedError, UNAVAILABLE),
    (errors.StorageError, ProblemKind(503, "unknown-outcome", "The medium failed")),
    (errors.MerkleLogError, MERKLE_LOG),
    (errors.FoldError, ProblemKind(500, "fold", "A fold refused an event")),
    (errors.DecodeError, ProblemKind(500, "undecodable", "An event doesn't fit its class")),
    (errors.AuditError, UNAUDITED),
    (errors.VaultError, ProblemKind(500, "vault", "The vault can't be used")),
)
"""The first one that an error is of decides."""

_MEMBERS: Final = ("stream", "expected", "actual", "after", "position", "column", "commit_id")
"""What an error knows that its problem tells, too."""

EVERY_PROBLEM: Final = tuple(
    {
        problem.name: problem
        for problem in (
            BAD_REQUEST,
            UNAUTHENTICATED,
            FORBIDDEN,
            UNKNOWN,
            NOT_ALLOWED,
            NOT_ACCEPTABLE,
            FAILED_PRECONDITION,
            TOO_LARGE,
            UNSUPPORTED_MEDIA,
            INVALID,
            TOO_MANY,
            PLAN_CHANGED,
            HEADERS_TOO_LARGE,
            TIMED_OUT,
            FAULT,
            *(problem for _, problem in OF_ERRORS),
        )
    }.values()
)

_NAMED: Final = {problem.name: problem for problem in EVERY_PROBLEM}
WRITING: Final = tuple(
    _NAMED[name]
    for name in (
        "commit-id-used",
        "invalid",
        "read-only",
        "erased-subject",
        "refused-inline",
        "retired",
        "unsupported",
        "storage-full",
        "unknown-outcome",
    )
)
"""What an append may end with, whatever it expects."""


def kind_of(error: BaseException) -> ProblemKind | None:
    """The kind of problem that an error is; None for an unforeseen one."""
    if isinstance(error, ProblemError):
        return error.problem
    return next((problem for kind, problem in OF_ERRORS if isinstance(error, kind)), None)


def problem_of(error: BaseException) -> ProblemError:
    """The problem that an error ends a request with. An unforeseen one goes to the log only."""
    if isinstance(error, ProblemError):
        return error
    problem = kind_of(error)
    if problem is not None:
        retry = {"Retry-After": str(_RETRY_SECONDS)} if problem.status == 503 else {}
        return ProblemError(problem, str(error), headers=retry, **_members(error))
    _LOG.error("a request failed", exc_info=error)
    return ProblemError(
        FAULT, "this is a fault on the server, which its log tells more of; please report it"
    )


def _members(error: BaseException) -> dict[str, Any]:
    plain: Callable[[Any], Any] = lambda value: (  # noqa: E731
        value if isinstance(value, int | str) else getattr(value, "name", str(value))
    )
    return {
        name: plain(value) for name in _MEMBERS if (value := getattr(error, name, None)) is not None
    }


def problem_content(error: ProblemError) -> dict[str, Any]:
    """The problem's members (RFC 9457)."""
    problem = error.problem
    return {
        "type": TYPES + problem.name,
        "title": problem.title,
        "status": problem.status,
        "detail": error.detail,
        **error.members,
    }


def problem_answer(error: ProblemError) -> Response:
    """The answer in ``application/problem+json``."""
    return Response(
        encode_json(problem_content(error)),
        error.problem.status,
        {**error.headers, "Cache-Control": "no-store"},
        "application/problem+json",
    )
