"""Random histories of a small bank, with random undos and redos, against a model of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.places import EVERYWHERE, Places

from everwhen import Commit, Event, Fold, Query, Store, Undo, Write, context, open_store
from everwhen.errors import UndoError
from everwhen.undo import Compensations, Correlation, Positions

pytestmark = pytest.mark.slow


class Deposited(Event):
    amount: int


class Withdrawn(Event):
    amount: int


class Greeted(Event):
    word: str


bank: Fold[int] = Fold("bank", int)
bank.on(Deposited)(lambda state, event: state + event.amount)
bank.on(Withdrawn)(lambda state, event: state - event.amount)

compensations = Compensations()
compensations.on(Deposited)(lambda event: Withdrawn(event.amount))
compensations.on(Withdrawn)(lambda event: Deposited(event.amount))
compensations.on(Greeted)(lambda event: [])

STREAMS = [f"account-{n}" for n in range(3)]
USERS = ["ann", "bob"]

events = st.one_of(
    st.builds(Deposited, st.integers(1, 9)),
    st.builds(Withdrawn, st.integers(1, 9)),
    st.builds(Greeted, st.sampled_from("ab")),
)
commits = st.tuples(
    st.sampled_from(USERS),
    st.sampled_from(["talk-1", "talk-2", None]),
    st.dictionaries(st.sampled_from(STREAMS), st.lists(events, min_size=1, max_size=3), min_size=1),
)
positions = st.integers(1, 25)
targets = st.one_of(
    positions,
    st.builds(
        lambda a, b, who: Positions(min(a, b), max(a, b), who),
        positions,
        positions,
        st.sampled_from([None, *USERS]),
    ),
    st.sampled_from([Correlation("talk-1"), Query().stream(STREAMS[0]), Query().types(Deposited)]),
)


class Model:
    """The events as they were written, and which of them are undone."""

    def __init__(self) -> None:
        self.written: dict[int, tuple[str, Event]] = {}
        self.undone: set[int] = set()

    def balances(self) -> dict[str, int]:
        found = dict.fromkeys(STREAMS, 0)
        for position, (stream, event) in self.written.items():
            if position not in self.undone:
                found[stream] = bank.apply(found[stream], [event])
        return found


def balances(store: Store) -> dict[str, int]:
    return {stream: store.fold(bank, stream) for stream in STREAMS}


EXAMPLES = {"memory": 60, "sqlite": 60, "postgresql": 15}


@pytest.mark.parametrize("places", EVERYWHERE, indirect=True)
def test_balances_are_the_models_at_each_stage(places: Places) -> None:
    @settings(max_examples=EXAMPLES[places.kind])
    @given(
        history=st.lists(commits, min_size=1, max_size=5),
        asked=st.lists(st.tuples(st.booleans(), targets), min_size=1, max_size=8),
    )
    def compare(history: list[Any], asked: list[tuple[bool, Any]]) -> None:
        with (
            places.fresh() as location,
            open_store(location, events=[Deposited, Withdrawn, Greeted], durable=False) as store,
        ):
            model = Model()
            for user, talk, writes in history:
                with context(user_id=user, correlation_id=talk):
                    store.commit(Commit([Write(s, found) for s, found in writes.items()]))
            for event in store.read():
                model.written[event.position] = (event.stream, event.event)
            for redo, target in asked:
                _ask(store, model, target, redo=redo)

    compare()


def _ask(store: Store, model: Model, target: Any, *, redo: bool) -> None:
    undo = Undo(store, compensations)
    if isinstance(target, int) and target > len(model.written):
        target = len(model.written)
    plan = undo.plan_redo(target) if redo else undo.plan(target)
    going, back = ({e.position for e in some} for some in (plan.undone, plan.redone))
    assert plan.is_complete
    assert not going & model.undone
    assert back <= model.undone
    assert len(going | back) == len(plan.undone) + len(plan.redone)
    assert going | back <= model.written.keys(), "what is undone is what was written first"
    if plan.is_empty:
        with pytest.raises(UndoError):
            undo.undo(plan)
        return
    (undo.redo if redo else undo.undo)(plan)
    model.undone = (model.undone | going) - back
    assert balances(store) == model.balances()
    if redo:
        with pytest.raises(UndoError):
            undo.redo(target)
    elif isinstance(target, int):
        # a position that named an undo is now as it was before that undo
        with pytest.raises(UndoError):
            undo.undo(target)
    back_again = undo.plan(plan.commit_id)
    if back_again.is_empty:
        assert all(isinstance(e.event, Greeted) for e in back_again.undone), "nothing to append"
        return
    undo.undo(back_again)
    model.undone = (model.undone - going) | back
    assert balances(store) == model.balances()
    undo.undo(_newest(store))
    model.undone = (model.undone | going) - back
    assert balances(store) == model.balances()


def _newest(store: Store) -> Any:
    (event,) = store.read(Query().backwards().limit(1))
    return event.commit_id


def test_an_undo_after_a_redo_by_everybody(location: str) -> None:
    """A long chain over the same event: each stage is told apart from the one before."""
    with open_store(location, events=[Deposited, Withdrawn], durable=False) as store:
        store.append(STREAMS[0], [Deposited(3)])
        seen = set()
        for stage in range(1, 13):
            undo = Undo(store, compensations)
            done = undo.undo(1) if stage % 2 else undo.redo(1)
            seen.add(done.commit_id)
            assert store.fold(bank, STREAMS[0]) == (0 if stage % 2 else 3)
        assert len(seen) == 12
