# Generated from src/everwhen/_async/audit_middleware.py by tools/unasync.py: edit that, then run `make sync`.
"""Layers of middleware that audit: what was done is never without its entry.

A command's entry goes into the command's own commit. What is refused, fails, or changes nothing
has an entry of its own, and so has a question. Put these layers first, so that they see what the
others refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen._sync.auditlog import AuditLog
from everwhen._sync.commands import CommandResult, Envelope, Middleware, Proceed
from everwhen._sync.queries import ProceedQuery, QueryMiddleware
from everwhen.audit_rules import AuditRules, Deed
from everwhen.auditing import AuditAction, AuditEntry, AuditResult, spoken
from everwhen.commits import Write, new_commit_id
from everwhen.errors import RefusedError, StorageError
from everwhen.metadata import current_metadata
from everwhen.queries import QueryResult, Question

_NO_RULES: Final = AuditRules()


def audited(
    audit: AuditLog,
    rules: AuditRules = _NO_RULES,
    *,
    outcome: Callable[[Any, tuple[Any, ...]], Mapping[str, Any]] | None = None,
) -> Middleware:
    """Audit each command, by its rule: what it did in the same commit, a no by an entry of its own.

    ``outcome`` may say more, of the command and the events that were decided: what it raises ends
    the matter, and nothing is written. The bus must be over the audit log's own store. An entry
    that can be kept nowhere raises `AuditError`, with the command's own error as its context.
    """

    def layer(envelope: Envelope, proceed: Proceed, /) -> CommandResult:
        deed = rules.deed(envelope.command, AuditAction.UPDATE, "commands")
        if deed is None:
            return proceed(envelope)
        command_id = envelope.id if envelope.id is not None else UUID(bytes=new_commit_id())
        name = type(envelope.command).__name__

        def entry(outcome: Mapping[str, Any], reason: str | None = None) -> AuditEntry:
            return audit.entry(
                deed.action,
                deed.resource,
                result=AuditResult.SUCCESS if reason is None else AuditResult.FAILURE,
                reason=reason,
                details={"command": name, **deed.details, **outcome},
                user=envelope.user_id,
                correlation=_correlation(envelope, command_id),
            )

        entry({})  # found wanting now, rather than when all else is done

        def write(events: tuple[Any, ...]) -> Write:
            came_out = {} if outcome is None else outcome(envelope.command, events)
            return audit.write_for(entry(came_out))

        try:
            result = proceed(
                msgspec.structs.replace(envelope, id=command_id, beside=(*envelope.beside, write))
            )
        except Exception as error:
            audit.record(entry(_outcome_of(error), spoken(error)))
            raise
        if result.receipt is None:
            audit.record(entry({"outcome": "nothing to do"}))
        return result

    return layer


def audited_queries(
    audit: AuditLog,
    rules: AuditRules = _NO_RULES,
    *,
    outcome: Callable[[QueryResult[Any]], Mapping[str, Any]] | None = None,
) -> QueryMiddleware:
    """Audit each question, by its rule: who asked, and what came out.

    The entry is kept before the answer is given. It says at which position the answer holds, and of
    an answer with a length how long it is; ``outcome`` may say more.
    """

    def layer(question: Question, proceed: ProceedQuery, /) -> QueryResult[Any]:
        deed = rules.deed(question.query, AuditAction.READ, "queries")
        if deed is None:
            return proceed(question)
        details = {"query": type(question.query).__name__, **deed.details}
        _entry(audit, deed, details)  # found wanting now, rather than when all else is done
        try:
            result = proceed(question)
        except Exception as error:
            audit.record(_entry(audit, deed, details, spoken(error)))
            raise
        came_out: dict[str, Any] = {"position": result.position}
        if isinstance(result.data, Sized) and not isinstance(result.data, str | bytes):
            came_out["length"] = len(result.data)
        if outcome is not None:
            came_out.update(outcome(result))
        audit.record(_entry(audit, deed, {**details, **came_out}))
        return result

    return layer


def _entry(
    audit: AuditLog, deed: Deed, details: Mapping[str, Any], reason: str | None = None
) -> AuditEntry:
    return audit.entry(
        deed.action,
        deed.resource,
        result=AuditResult.SUCCESS if reason is None else AuditResult.FAILURE,
        reason=reason,
        details=details,
    )


def _outcome_of(error: Exception) -> dict[str, Any]:
    """What is known of a command that raised: refused, failed, or (the store's fault) open."""
    if isinstance(error, RefusedError):
        return {"outcome": "refused"}
    return {"outcome": "open" if isinstance(error, StorageError | OSError) else "failed"}


def _correlation(envelope: Envelope, command_id: UUID) -> str:
    own = envelope.metadata.correlation_id if envelope.metadata is not None else None
    return own or current_metadata().correlation_id or str(command_id)
