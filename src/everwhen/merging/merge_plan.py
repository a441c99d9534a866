"""Merging branches of history: what is decided again, what is compared, and what comes of it.

A branch's commits are taken over one after the other. One that was decided on a command is decided
again on the target's present state; one that only states facts is compared with it in three ways,
on the parts of the state that it touches. All that is found is told before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar
from uuid import UUID, uuid5

import msgspec

from everwhen.codec.commits import Write
from everwhen.codec.recorded_events import RecordedEvent, commit_metadata
from everwhen.state.fold import Fold
from everwhen.state.paths import Path, text_of
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import BranchError, DeclarationError
from everwhen.vocabulary.events import NewEvent, UnknownEvent
from everwhen.vocabulary.query import Query

S = TypeVar("S")

MERGED_EXTRA: Final = "merged_from"
"""The key under which a merge's commit keeps its record, and each event where it comes from."""
NEEDLE: Final = b'"merged_from"'
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMESPACE: Final = UUID("5b6b1a4e-6f0e-5c0b-9b57-4f2b3c8d7a11")

Strategy: TypeAlias = Literal["fail", "ours", "theirs", "redecide"]
MergeOutcome: TypeAlias = Literal["same", "redecided", "rejected", "conflict"]

contents: Final[Fold[dict[str, dict[str, Any]]]] = Fold(
    "contents", dict, copy=dict.copy, state=dict[str, dict[str, Any]]
)
"""Each stream's data, laid over one another: what facts are compared on unless told otherwise."""


@contents.otherwise
def _laid_over(
    state: dict[str, dict[str, Any]], recorded: RecordedEvent[Any]
) -> dict[str, dict[str, Any]]:
    state[recorded.stream] = {**state.get(recorded.stream, {}), **recorded.data}
    return state


class Invariant(Generic[S]):
    """What has to hold after every commit that a merge takes over: a condition on a fold's state.

    The fold needs to do with typed events; ``of`` are the events that it is given.
    """

    def __init__(
        self, name: str, fold: Fold[S], holds: Callable[[S], Any], of: Query | None = None
    ) -> None:
        if fold.needs_records:
            raise DeclarationError(
                f"invariant {name!r}: fold {fold.name!r} wants events as recorded, which those of "
                f"a merge aren't yet; give a fold with functions by event type only"
            )
        self.name = name
        self.fold = fold
        self.holds = holds
        self.of = Query() if of is None else of

    def __repr__(self) -> str:
        return f"Invariant({self.name!r})"


class PathConflict(msgspec.Struct, frozen=True):
    """A part of the state that both sides have changed, each in its way."""

    path: Path
    base: Any
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        where = text_of(self.path) or "state"
        return f"{where} was {self.base!r}, is {self.ours!r} here and {self.theirs!r} there"


class MergeItem(msgspec.Struct, frozen=True):
    """What becomes of one commit of the branch.

    ``outcome`` is *same* where it comes out as it was (or is there already), *redecided* where its
    command leads to other events now, *rejected* where it is refused now, and *conflict* where
    facts contradict what is there, or an invariant would break. ``reason`` says why. ``writes`` is
    what is taken over; ``is_settled`` is False where the strategy leaves it to a person.
    """

    commit_id: UUID
    position: int
    events: tuple[RecordedEvent[Any], ...]
    command: str | None
    outcome: MergeOutcome
    writes: tuple[Write, ...]
    is_settled: bool
    reason: str = ""
    conflicts: tuple[PathConflict, ...] = ()


class MergePlan(msgspec.Struct, frozen=True):
    """What a merge would do: nothing of it has been written.

    ``after`` and ``up_to`` are the positions on the branch between which commits are taken over,
    ``on`` the position of the target that all of it was decided on.
    """

    source: str
    target: str
    after: int
    up_to: int
    on: int
    items: tuple[MergeItem, ...]

    @property
    def unsettled(self) -> list[MergeItem]:
        """Those that stand in the way."""
        return [item for item in self.items if not item.is_settled]

    @property
    def writes(self) -> list[Write]:
        """What is written, in the order in which it happened on the branch."""
        return [write for item in self.items for write in item.writes if write.events]

    @property
    def counts(self) -> dict[str, int]:
        """How many commits came out how."""
        found: dict[str, int] = {}
        for item in self.items:
            found[item.outcome] = found.get(item.outcome, 0) + 1
        return found


class MergeRecord(msgspec.Struct, frozen=True):
    """What a merge's commit says of itself, in its metadata's extras."""

    branch: str
    id: str
    up_to: int
    commits: int


Resolver: TypeAlias = Callable[[MergeItem], "Strategy | Sequence[Write]"]
"""Says what to do about one item: by which strategy, or what to write in its place."""


def merge_id(record: MergeRecord, target: str, chosen: Sequence[UUID]) -> UUID:
    """The id of a merge's commit: the same merge again has the same."""
    picked = ",".join(map(str, chosen))
    return uuid5(_NAMESPACE, f"{record.id}:{record.up_to}:{target}:{picked}")


def record_in(stored: StoredSlice) -> MergeRecord | None:
    """The record of the merge that wrote a slice; None for other commits."""
    if not stored.metadata or NEEDLE not in stored.metadata:
        return None
    kept = commit_metadata(stored).extras.get(MERGED_EXTRA)
    try:
        return None if kept is None else msgspec.convert(kept, MergeRecord)
    except msgspec.ValidationError:
        return None


def taken_over(event: RecordedEvent[Any]) -> NewEvent[Any]:
    """An event of a branch, as it is written to another one."""
    own = event._entry.metadata
    typed = event.event
    if isinstance(typed, UnknownEvent):
        typed = UnknownEvent(event.type, event.data, event.schema_version)
    return NewEvent(
        event=typed,
        tags=event.tags,
        occurred_at=event.occurred_at,
        extras={
            **((own.extras if own is not None else None) or {}),
            MERGED_EXTRA: origin_of(event),
        },
    )


def origin_of(event: RecordedEvent[Any]) -> dict[str, Any]:
    """Where an event comes from at first: who did it there, and in which commit."""
    metadata = event.metadata
    if came_from(event) is not None:
        return dict(metadata.extras[MERGED_EXTRA])
    origin = {
        "commit": str(metadata.commit_id),
        "user": metadata.user_id,
        "source": metadata.source,
    }
    return {name: value for name, value in origin.items() if value is not None}


def came_from(event: RecordedEvent[Any]) -> str | None:
    """The id of the commit that an event was taken over from; None where it wasn't."""
    origin = event.metadata.extras.get(MERGED_EXTRA)
    commit = origin.get("commit") if isinstance(origin, dict) else None
    return commit if isinstance(commit, str) and _UUID.fullmatch(commit) else None


class MergeError(BranchError):
    """A merge in which something is unsettled; nothing was written. ``plan`` says what."""

    def __init__(self, branch: str, target: str, plan: MergePlan) -> None:
        unsettled = plan.unsettled
        first = unsettled[0]
        about = first.command or ", ".join(dict.fromkeys(event.type for event in first.events))
        why = f"position {first.position} ({about}): {first.reason}"
        more = f", and {len(unsettled) - 1} more" if len(unsettled) > 1 else ""
        super().__init__(
            branch,
            f"{len(unsettled)} of {len(plan.items)} commits can't be merged into {target!r} just "
            f"so; {why}{more}. Look at the plan, and choose a strategy or a resolver",
        )
        self.target = target
        self.plan = plan

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.branch, self.target, self.plan)
