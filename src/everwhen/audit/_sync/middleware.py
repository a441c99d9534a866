# Generated from src/everwhen/audit/_async/middleware.py by tools/unasync.py: edit that, then run `make sync`.
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

from everwhen.audit._sync.audit_log import AuditLog
from everwhen.audit.entries import AuditAction, AuditEntry, AuditResult, spoken
from everwhen.audit.rules import AuditedAction, AuditRules
from everwhen.codec.commits import Write, new_commit_id
from everwhen.commands._sync.command_bus import CallNext, CommandResult, Envelope, Middleware
from everwhen.projections._sync.query_bus import CallNextQuery, QueryMiddleware
from everwhen.projections.queries import QueryResult, Question
from everwhen.vocabulary.errors import AuditError, RefusedError, StorageError
from everwhen.vocabulary.metadata import current_metadata

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
    that can't be kept raises `AuditError`, with the command's own error as its context; an
    interrupt (Ctrl-C, ``SystemExit``, a cancelled task) is raised itself, with that as its cause.

    A command of which no entry can be made, by its user's name or what its rule says, is refused
    with `InvalidAuditEntryError`; the entry on that is escaped (see `AuditLog.entry`). So is one
    whose rule raises.
    """

    def layer(envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        command = envelope.command
        command_id = envelope.id if envelope.id is not None else UUID(bytes=new_commit_id())
        default = _default(audit, AuditAction.UPDATE, "commands", "command", command)
        default = msgspec.structs.replace(default, correlation=str(command_id))

        def ruled() -> _Account | None:
            known = msgspec.structs.replace(
                default,
                user=envelope.user_id,
                correlation=_correlation(envelope) or default.correlation,
            )
            return known.by_rule(rules.deed(command, default.action, "commands"))

        account = _checked(default, ruled)
        if account is None:
            return proceed(envelope)

        def write(events: tuple[Any, ...]) -> Write:
            came_out = {} if outcome is None else outcome(command, events)
            return audit.write_for(account.entry(came_out))

        try:
            result = proceed(
                msgspec.structs.replace(envelope, id=command_id, beside=(*envelope.beside, write))
            )
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException as error:
            account.failed(error, _outcome_of(error))
            raise
        if result.receipt is None:
            audit.record(account.entry({"outcome": "nothing to do"}, escape=True))
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
    an answer with a length how long it is; ``outcome`` may say more. Questions of which no entry
    can be made are refused, and interrupts recorded, as by `audited`.
    """

    def layer(question: Question, proceed: CallNextQuery, /) -> QueryResult[Any]:
        query = question.query
        default = _default(audit, AuditAction.READ, "queries", "query", query)
        account = _checked(
            default, lambda: default.by_rule(rules.deed(query, default.action, "queries"))
        )
        if account is None:
            return proceed(question)
        try:
            result = proceed(question)
            came_out: dict[str, Any] = {"position": result.position}
            if isinstance(result.data, Sized) and not isinstance(result.data, str | bytes):
                came_out["length"] = len(result.data)
            if outcome is not None:
                came_out.update(outcome(result))
            entry = account.entry(came_out)
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException as error:
            account.failed(error, {})
            raise
        audit.record(entry)
        return result

    return layer


class _Account(msgspec.Struct, frozen=True):
    """What the entries on one command or question say."""

    audit: AuditLog
    action: AuditAction
    resource: str
    details: dict[str, Any]
    user: str | None = None
    correlation: str | None = None

    def by_rule(self, deed: AuditedAction | None) -> _Account | None:
        """The same as a rule has it; None where that leaves it out."""
        if deed is None:
            return None
        details = {**self.details, **deed.details}
        return msgspec.structs.replace(
            self, action=deed.action, resource=deed.resource, details=details
        )

    def entry(
        self, more: Mapping[str, Any], reason: str | None = None, *, escape: bool = False
    ) -> AuditEntry:
        """An entry that says this, and ``more``."""
        return self.audit.entry(
            self.action,
            self.resource,
            result=AuditResult.SUCCESS if reason is None else AuditResult.FAILURE,
            reason=reason,
            details={**self.details, **more},
            user=self.user,
            correlation=self.correlation,
            escape=escape,
        )

    def failed(self, error: BaseException, more: Mapping[str, Any]) -> None:
        """Record that it failed; where that can't be, an interrupt goes on all the same."""
        try:
            self.audit.record(self.entry(more, spoken(error), escape=True))
        except AuditError as lost:
            if isinstance(error, Exception):
                raise
            raise error from lost


def _default(
    audit: AuditLog, action: AuditAction, category: str, kind: str, asked: Any
) -> _Account:
    """What is recorded before a rule has been applied."""
    name = type(asked).__name__
    return _Account(audit, action, f"{category}/{name}", {kind: name})


def _checked(default: _Account, ruled: Callable[[], _Account | None]) -> _Account | None:
    """What the rule says; None where it leaves this out. Raises what is wrong with it, recorded.

    So it is found wanting now, rather than when all else is done.
    """
    account = default
    try:
        found = ruled()
        if found is None:
            return None
        account = found
        account.entry({})
    except GeneratorExit:  # nothing can be awaited any more
        raise
    except BaseException as error:
        account.failed(error, _outcome_of(error))
        raise
    return account


def _outcome_of(error: BaseException) -> dict[str, Any]:
    """What is known of a command that raised: refused, failed, or (interrupts too) open."""
    if isinstance(error, RefusedError):
        return {"outcome": "refused"}
    is_open = isinstance(error, StorageError | OSError) or not isinstance(error, Exception)
    return {"outcome": "open" if is_open else "failed"}


def _correlation(envelope: Envelope) -> str | None:
    own = envelope.metadata.correlation_id if envelope.metadata is not None else None
    return own or current_metadata().correlation_id
