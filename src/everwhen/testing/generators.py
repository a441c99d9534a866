"""Facts to fill a store with, and a plain judgement of which of them a query wants.

Written without the product's own matching, so that the two can be checked against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.testing.specimens import Deposited, Noted, Withdrawn
from everwhen.vocabulary.events import NewEvent
from everwhen.vocabulary.query import Query, Share

_STREAMS: Final = ("a-1", "a-2", "a-b-1", "ab-1", "b-1", "a", "it's, ü-1")


class Fact(NamedTuple):
    """An event, as the test knows it to be stored."""

    position: int
    stream: str
    version: int
    recorded_at: datetime
    occurred_at: datetime
    event: Any
    tags: tuple[str, ...]

    @classmethod
    def of(
        cls, stream: str, version: int, position: int, recorded_at: datetime, new: NewEvent[Any]
    ) -> Fact:
        """The fact that an append of this event makes."""
        account = getattr(new.event, "account", None)
        tags = (*(() if account is None else (f"account:{account}",)), *new.tags)
        occurred_at = new.occurred_at or recorded_at
        return cls(position, stream, version, recorded_at, occurred_at, new.event, tags)

    @classmethod
    def read(cls, read: RecordedEvent[Any]) -> Fact:
        """The fact that a reader got."""
        return cls(
            read.position,
            read.stream,
            read.version,
            read.recorded_at,
            read.occurred_at,
            read.event,
            read.tags,
        )

    @property
    def place(self) -> tuple[int, str, int]:
        """Enough of it to tell it apart."""
        return self.position, self.stream, self.version


def written_events(batch: int, now: datetime) -> list[list[tuple[str, Sequence[NewEvent[Any]]]]]:
    """The commits of one batch, as pairs of stream and events; the same for the same batch."""
    commits: list[list[tuple[str, Sequence[NewEvent[Any]]]]] = []
    for number in range(9):
        key = batch * 9 + number
        size = (1, 2, 1, 3, 1, 40, 1, 1, 12)[number]
        if key == 40:
            size = 1_003
        writes: list[tuple[str, Sequence[NewEvent[Any]]]] = [
            (_STREAMS[key % 7], [_event(key, i, now) for i in range(size)])
        ]
        if number % 4 == 0:
            writes.append((_STREAMS[(key + 3) % 7], [_event(key, size, now)]))
        commits.append(writes)
    return commits


def _event(key: int, index: int, now: datetime) -> NewEvent[Any]:
    seed = key * 31 + index * 7
    event: Any = (
        Deposited(seed % 3, key),
        Withdrawn(seed % 2, index),
        Noted(f"{key}/{index}"),
        Noted("ü"),
    )[seed % 4]
    return NewEvent(
        event=event,
        tags=("odd",) if seed % 5 == 1 else (("odd", "rare") if seed % 97 == 0 else ()),
        occurred_at=now - timedelta(hours=seed % 9) if seed % 3 == 0 else None,
    )


class Selection(NamedTuple):
    """A query, and the same thing said in plain Python."""

    query: Query
    takes: Callable[[Fact], bool]


def _category(fact: Fact) -> str:
    return fact.stream.split("-")[0]


FILTERS: Final[tuple[Selection, ...]] = (
    Selection(Query(), lambda _: True),
    Selection(Query().stream("a-1"), lambda f: f.stream == "a-1"),
    Selection(Query().stream("a-2", "b-1", "no"), lambda f: f.stream in {"a-2", "b-1"}),
    Selection(Query().stream("no"), lambda _: False),
    Selection(Query().category("a"), lambda f: _category(f) == "a"),
    Selection(Query().category("ab", "it's, ü"), lambda f: _category(f) in {"ab", "it's, ü"}),
    Selection(Query().category("a-b"), lambda _: False),
    Selection(Query().types(Deposited), lambda f: isinstance(f.event, Deposited)),
    Selection(Query().types(Withdrawn, "Noted"), lambda f: isinstance(f.event, Withdrawn | Noted)),
    Selection(Query().types("Unheard"), lambda _: False),
    Selection(Query().tags("rare"), lambda f: "rare" in f.tags),
    Selection(Query().tags("account:0", "odd"), lambda f: {"account:0", "odd"} <= set(f.tags)),
    Selection(Query().tags("unheard", "odd"), lambda _: False),
    Selection(
        Query().category("a").types(Noted).tags("odd"),
        lambda f: _category(f) == "a" and isinstance(f.event, Noted) and "odd" in f.tags,
    ),
    Selection(
        Query().stream("b-1", "a").types(Deposited),
        lambda f: f.stream in {"b-1", "a"} and isinstance(f.event, Deposited),
    ),
    Selection(
        Query().stream("a-1", "b-1").category("b").tags("account:1"),
        lambda f: f.stream == "b-1" and "account:1" in f.tags,
    ),
    Selection(
        Query().types(Deposited).tags("account:2") | Query().types(Withdrawn).tags("account:1"),
        lambda f: (
            (isinstance(f.event, Deposited) and "account:2" in f.tags)
            or (isinstance(f.event, Withdrawn) and "account:1" in f.tags)
        ),
    ),
    Selection(
        Query().stream("a-1") | Query().tags("rare") | Query().category("b"),
        lambda f: f.stream == "a-1" or "rare" in f.tags or _category(f) == "b",
    ),
    Selection(Query().stream("a-1") | Query(), lambda _: True),
    Selection(
        Query().stream("a-1") | Query().stream("a-1", "a"), lambda f: f.stream in {"a-1", "a"}
    ),
    Selection(Query(share=Share("stream", 0, 2)), lambda f: crc32(f.stream.encode()) % 2 == 0),
    Selection(
        msgspec.structs.replace(Query().types(Noted), share=Share("category", 1, 2)),
        lambda f: isinstance(f.event, Noted) and crc32(_category(f).encode()) % 2 == 1,
    ),
)


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds and the limit of a query."""

    after: int = 0
    up_to: int | None = None
    from_version: int | None = None
    to_version: int | None = None
    as_at: datetime | None = None
    as_of: datetime | None = None
    limit: int | None = None

    def applied(self, query: Query) -> Query:
        """The query within these bounds."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None:
                query = getattr(query, name)(value)
        return query

    def leave(self, fact: Fact) -> bool:
        """Whether the fact lies within them."""
        return (
            fact.position > self.after
            and (self.up_to is None or fact.position <= self.up_to)
            and (self.from_version is None or fact.version >= self.from_version)
            and (self.to_version is None or fact.version <= self.to_version)
            and (self.as_at is None or fact.recorded_at <= self.as_at)
            and (self.as_of is None or fact.occurred_at <= self.as_of)
        )


def wanted_facts(taken: Sequence[Fact], bounds: Bounds, *, backwards: bool) -> list[Fact]:
    """Those of the facts that a query takes which lie within its bounds, in the query's order."""
    found = [fact for fact in taken if bounds.leave(fact)]
    if backwards:
        found.reverse()
    return found[: bounds.limit]
