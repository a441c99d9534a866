"""A commit's metadata: who wrote it, why and from where.

It flows by itself within a context::

    with causation(placed):                 # a recorded event
        store.append("account-7", Withdrawn(amount=5))

The append's correlation id is that of ``placed``, its causation id is ``placed``'s event id.
``context(user_id="ann", source="web")`` does the same for the other fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    pass


class CommitMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A commit's metadata. Every field is optional.

    ``causation_id`` is the event or command that led to the commit, ``correlation_id`` names the
    whole conversation it belongs to (the commit's own id when nothing else is given), ``user_id``
    who did it, ``source`` from where, and ``extras`` is JSON data of your own.
    """

    causation_id: str | None = None
    correlation_id: str | None = None
    user_id: str | None = None
    source: str | None = None
    extras: Mapping[str, Any] = msgspec.field(default_factory=dict)


NO_METADATA: Final = CommitMetadata()
_current: Final = ContextVar("everwhen_metadata", default=NO_METADATA)


def current_metadata() -> CommitMetadata:
    """The metadata that an append made here and now will carry."""
    return _current.get()


def merged(over: CommitMetadata | None, under: CommitMetadata) -> CommitMetadata:
    """``over`` with the gaps filled from ``under``; extras are merged key by key."""
    if over is None:
        return under
    return CommitMetadata(
        causation_id=over.causation_id if over.causation_id is not None else under.causation_id,
        correlation_id=(
            over.correlation_id if over.correlation_id is not None else under.correlation_id
        ),
        user_id=over.user_id if over.user_id is not None else under.user_id,
        source=over.source if over.source is not None else under.source,
        extras={**under.extras, **over.extras},
    )


@contextmanager
def context(
    *,
    causation_id: str | None = None,
    correlation_id: str | None = None,
    user_id: str | None = None,
    source: str | None = None,
    extras: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Appends within carry these fields, on top of those of an outer context."""
    inner = CommitMetadata(
        causation_id=causation_id,
        correlation_id=correlation_id,
        user_id=user_id,
        source=source,
        extras=extras or {},
    )
    token = _current.set(merged(inner, _current.get()))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def without_context() -> Iterator[None]:
    """Appends within carry their own metadata alone."""
    token = _current.set(NO_METADATA)
    try:
        yield
    finally:
        _current.reset(token)
