"""Which audit entries to see, and who may see which. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from everwhen.audit.entries import AuditAction, AuditEntry, AuditResult, resource_tag, stream_of
from everwhen.vocabulary.errors import DeclarationError, InvalidQueryError
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.personal_data import Erased


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries: those that fit all that is given.

    ``resource`` is a path, and stands for all below it too: ``accounts/7`` for
    ``accounts/7/limit``, but not for ``accounts/70``; ``accounts/`` only for what lies
    below it. ``since`` is inclusive, ``until`` is not.
    ``text`` is looked for in the reason and anywhere in the details, in upper and lower case.
    """

    user: str | None = None
    action: AuditAction | None = None
    resource: str | None = None
    result: AuditResult | None = None
    since: datetime | None = None
    until: datetime | None = None
    correlation: str | None = None
    text: str | None = None

    def matches(self, entry: AuditEntry) -> bool:
        """Whether an entry fits."""
        return (
            (self.user is None or entry.user == self.user)
            and (self.action is None or entry.action is self.action)
            and (self.result is None or entry.result is self.result)
            and (self.correlation is None or entry.correlation == self.correlation)
            and (self.since is None or entry.timestamp >= self.since)
            and (self.until is None or entry.timestamp < self.until)
            and (self.resource is None or is_below(entry.resource, self.resource))
            and (self.text is None or _speaks_of(entry, self.text.casefold()))
        )

    def is_within(self, granted: AuditFilter) -> bool:
        """Whether all that fits this fits ``granted`` too, as far as the two filters show."""
        for field in ("user", "action", "result", "correlation", "text"):
            limit = getattr(granted, field)
            if limit is not None and getattr(self, field) != limit:
                return False
        if granted.resource is not None and not (
            self.resource is not None and is_below(self.resource, granted.resource)
        ):
            return False
        if granted.since is not None and (self.since is None or self.since < granted.since):
            return False
        return granted.until is None or (self.until is not None and self.until <= granted.until)

    def tags(self) -> tuple[str, ...]:
        """The tags that every entry which fits carries."""
        tags: list[str] = []
        if self.user is not None:
            tags.append(f"user:{self.user}")
        if self.action is not None:
            tags.append(f"action:{self.action.value}")
        if self.result is not None:
            tags.append(f"result:{self.result.value}")
        if self.correlation is not None:
            tags.append(f"correlation:{self.correlation}")
        if self.resource is not None:
            tags.append(resource_tag(self.resource))
        return tuple(tags)

    def spans(self, stream: str) -> bool:
        """Whether a month's stream can hold entries that fit."""
        if self.since is not None and stream < stream_of(self.since):
            return False
        return self.until is None or stream <= stream_of(self.until)

    def described(self) -> dict[str, Any]:
        """What is asked for, as plain data."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in plain.items() if value is not None}


AuditPolicy: TypeAlias = Callable[[str | None], Iterable[AuditFilter]]
"""Says what a user may see: all that is within any of the filters; none for nothing at all."""

EVERY_ENTRY: Final = AuditFilter()


class AuditRecord(msgspec.Struct, frozen=True):
    """An entry as it was recorded. ``recorded_at`` may be later than the entry's own time."""

    id: str
    position: int
    recorded_at: datetime
    commit_id: UUID
    entry: AuditEntry


class AuditPage(msgspec.Struct, frozen=True):
    """One page of entries, and where the next one begins; ``cursor`` is None after the last."""

    records: tuple[AuditRecord, ...]
    cursor: int | None


def checked_filter(wanted: AuditFilter) -> AuditFilter:
    """The filter, with every rule about it checked. Raises `InvalidQueryError`."""
    if not isinstance(wanted, AuditFilter):
        raise InvalidQueryError(f"expected an AuditFilter, got {wanted!r}")
    for field in ("user", "resource", "correlation", "text"):
        value = getattr(wanted, field)
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidQueryError(f"{field}={value!r}: use non-empty text")
    for field, kind in (("action", AuditAction), ("result", AuditResult)):
        value = getattr(wanted, field)
        if value is not None and not isinstance(value, kind):
            raise InvalidQueryError(f"{field}={value!r}: use an {kind.__name__}")
    for field in ("since", "until"):
        value = getattr(wanted, field)
        try:
            _ = value is None or to_micros(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidQueryError(
                f"{field}={value!r}: use a datetime with a time zone"
            ) from error
    return wanted


def allowed(policy: AuditPolicy, user: str | None, wanted: AuditFilter) -> bool:
    """Whether the policy lets the user see what the filter asks for."""
    granted = list(policy(user))
    if not all(isinstance(one, AuditFilter) for one in granted):
        raise DeclarationError(f"the audit policy answered {granted!r}; let it give AuditFilters")
    return any(wanted.is_within(one) for one in granted)


def is_below(resource: str, path: str) -> bool:
    """Whether a resource is the path itself, or lies below it."""
    return resource == path or resource.startswith(path if path.endswith("/") else path + "/")


def _speaks_of(entry: AuditEntry, text: str) -> bool:
    said = [*_texts(entry.reason), *_texts(entry.details)]
    return any(text in one.casefold() for one in said)


def _texts(value: object) -> Iterator[str]:
    """Every key and every plain value, as text; of what was erased, nothing."""
    if value is None or isinstance(value, Erased):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield value if isinstance(value, str) else msgspec.json.encode(value).decode()
