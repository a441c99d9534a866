# Generated from src/everwhen/undo/_async/undo.py by tools/unasync.py: edit that, then run `make sync`.
"""Undo and redo over a store, each in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from everwhen.codec.commits import Write
from everwhen.store._sync.store import Store, check_store
from everwhen.undo._sync.undo_planner import Planning
from everwhen.undo.compensations import Compensations
from everwhen.undo.undo_plan import ByDifference, UndoPlan
from everwhen.undo.undo_targets import UndoTarget
from everwhen.vocabulary.contract import Receipt
from everwhen.vocabulary.errors import (
    CommitIdError,
    ConditionError,
    ConflictError,
    DeclarationError,
    UndoError,
)
from everwhen.vocabulary.metadata import CommitMetadata

_MAX_ATTEMPTS: Final = 5
"""Five others in a row that were faster: more than chance."""


class Undo:
    """Undoes what was written by appending what compensates it, and does it again.

    Nothing is ever taken out of the log: an undo is a commit like any other, that names what it
    undoes in its tags and its extras. Whether an event is undone follows from the log alone, so
    it holds for every process. What is undone already can't be undone again, nor what isn't be
    redone; an undo that is undone is redone. Audit entries are left as they are: they say what was
    done, which stays true.

    An undo is of at most ``max_events`` events. Safe to share between threads and tasks.
    """

    def __init__(
        self, store: Store, compensations: Compensations, *, max_events: int = 10_000
    ) -> None:
        if not isinstance(compensations, Compensations):
            raise DeclarationError(f"{compensations!r}: give Compensations")
        self.store = check_store(store)
        self.compensations = compensations
        self.max_events = max_events

    def __repr__(self) -> str:
        return f"Undo({self.store!r})"

    def plan(
        self,
        target: UndoTarget,
        *,
        by_difference: ByDifference[Any] | None = None,
        dependents: int = 100,
    ) -> UndoPlan:
        """What undoing the target would do. Nothing is written.

        Undoing leads back to how things stood before the first of the target's events: what an
        undo in it has undone is done again, unless its event is in the target too.

        So many ``dependents`` are listed; looking for them reads all that was written since, and
        0 leaves that out. Raises `InvalidQueryError` for what is not a target, and `UndoError` for
        one of too many events.
        """
        return self._planning(target, by_difference).plan(dependents, redo=False)

    def plan_redo(self, target: UndoTarget, *, dependents: int = 100) -> UndoPlan:
        """What doing the target again would do: the events that were undone, or the undo itself."""
        return self._planning(target, None).plan(dependents, redo=True)

    def undo(
        self,
        target: UndoTarget | UndoPlan,
        *,
        by_difference: ByDifference[Any] | None = None,
        allow_partial: bool = False,
        metadata: CommitMetadata | None = None,
        beside: Sequence[Write] = (),
    ) -> Receipt:
        """Undo the target, or what a plan says, in one commit.

        ``beside`` are writes that go into that commit, such as an audit entry of the undo. Where
        two send the same undo with others beside it, one of them is refused.

        Raises `UndoError` where there is nothing to undo, where something can't be undone (unless
        ``allow_partial`` leaves it out), and where a plan is of the past. A target is planned
        again when others were faster.
        """
        if isinstance(target, UndoPlan):
            return self._write(target, metadata, beside, allow_partial=allow_partial)
        for attempt in range(_MAX_ATTEMPTS):
            plan = self.plan(target, by_difference=by_difference, dependents=0)
            try:
                return self._write(plan, metadata, beside, allow_partial=allow_partial)
            except UndoError as error:
                if error.__cause__ is None or attempt == _MAX_ATTEMPTS - 1:
                    raise
        raise AssertionError(attempt)

    def redo(
        self,
        target: UndoTarget | UndoPlan,
        *,
        allow_partial: bool = False,
        metadata: CommitMetadata | None = None,
        beside: Sequence[Write] = (),
    ) -> Receipt:
        """Do again what was undone, in one commit; the same rules as for `undo`."""
        if isinstance(target, UndoPlan):
            return self._write(target, metadata, beside, allow_partial=allow_partial)
        for attempt in range(_MAX_ATTEMPTS):
            plan = self.plan_redo(target, dependents=0)
            try:
                return self._write(plan, metadata, beside, allow_partial=allow_partial)
            except UndoError as error:
                if error.__cause__ is None or attempt == _MAX_ATTEMPTS - 1:
                    raise
        raise AssertionError(attempt)

    def _planning(self, target: UndoTarget, by_difference: ByDifference[Any] | None) -> Planning:
        return Planning(self.store, self.compensations, target, by_difference, self.max_events)

    def _write(
        self,
        plan: UndoPlan,
        metadata: CommitMetadata | None,
        beside: Sequence[Write],
        *,
        allow_partial: bool,
    ) -> Receipt:
        plan.check(allow_partial=allow_partial)
        try:
            return self.store.commit(plan.commit(metadata, beside))
        except (ConflictError, ConditionError, CommitIdError) as error:
            raise UndoError(
                f"{plan.what}: since the plan was made at position {plan.position}, things have "
                f"moved on ({error})",
                "plan again",
            ) from error
