# Generated from src/everwhen/testing/_async/conditions.py by tools/unasync.py: edit that, then run `make sync`.
"""Guarantee 4: a condition holds at the moment of the commit."""

from __future__ import annotations

from everwhen.codec.commits import Commit, Write
from everwhen.testing._sync.bench import Bench, events_of
from everwhen.testing._sync.concurrency import together
from everwhen.testing.checks import equal, raises
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, Withdrawn, notes
from everwhen.vocabulary.contract import Condition, Receipt
from everwhen.vocabulary.errors import ConditionError, ConflictError, InvalidCommitError
from everwhen.vocabulary.events import NewEvent
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import NO_STREAM

_EVERY = Query()
_BREAKING = (
    _EVERY,
    _EVERY.stream("account-1"),
    _EVERY.stream("other", "account-1"),
    _EVERY.category("account"),
    _EVERY.types(Deposited),
    _EVERY.types(Withdrawn, Deposited),
    _EVERY.tags("account:1"),
    _EVERY.tags("account:1", "vip"),
    _EVERY.types(Deposited).tags("vip").category("account").stream("account-1"),
    _EVERY.types(Withdrawn) | _EVERY.tags("vip"),
    _EVERY.stream("none") | _EVERY.stream("nothing") | _EVERY.types(Deposited),
)
_HARMLESS = (
    _EVERY.stream("account-2"),
    _EVERY.category("acc"),
    _EVERY.category("account-1"),
    _EVERY.types(Withdrawn),
    _EVERY.types("deposited"),
    _EVERY.tags("account:2"),
    _EVERY.tags("account:1", "gold"),
    _EVERY.tags("account:11"),
    _EVERY.types(Noted).tags("vip"),
    _EVERY.types(Deposited).stream("account-2"),
    _EVERY.types(Withdrawn) | _EVERY.tags("gold") | _EVERY.stream("account"),
)


@promise(Guarantee.CONDITIONS)
def a_condition_breaks_by_what_matches_its_query(bench: Bench) -> None:
    store = bench.store()
    early = store.append("account-1", [NewEvent(event=Deposited(1, 9), tags=("vip",))])
    commits = bench.commits(400)  # enough for an index to be worth it
    store.commit_batch(
        Commit((Write(f"filler-{number % 9}", notes(800 // commits)),)) for number in range(commits)
    )
    receipt = store.append("account-1", [NewEvent(event=Deposited(1, 5), tags=("vip",))])
    before = store.head()
    for query in _BREAKING:
        with raises(ConditionError, f"a condition on {query}") as caught:
            store.append("x", notes(1), condition=Condition(query, early.position))
        first = early.position + 1 if query == _EVERY else receipt.position
        equal(caught.error.position, first, "the error names the first event that matches")
        equal(caught.error.after, early.position, "and the position of the belief")
        equal(store.head(), before, "nothing was written")
    for query in _HARMLESS:
        store.append("x", notes(1), condition=Condition(query, early.position))


@promise(Guarantee.CONDITIONS)
def only_what_comes_after_the_position_counts(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(5))
    receipt = store.append("a", [Deposited(1, 1), Noted("x"), Noted("y")])
    query = Query().tags("account:1")
    place = receipt.position - 2
    store.append("b", notes(1), condition=Condition(query, place))
    store.append("b", notes(1), condition=Condition(query, place + 1))
    store.append("b", notes(1), condition=Condition(query, 1 << 80))
    with raises(ConditionError, "a match at the very next position") as caught:
        store.append("b", notes(1), condition=Condition(query, place - 1))
    equal(caught.error.position, place, "the position of the event inside its slice")


@promise(Guarantee.CONDITIONS)
def an_empty_store_meets_every_condition(bench: Bench) -> None:
    store = bench.store()
    receipt = store.append("a", notes(1), condition=Condition(Query(), 0))
    equal(receipt.versions, {"a": 1}, "nothing was there to break it")
    with raises(ConditionError, "now there is something"):
        store.append("a", notes(1), condition=Condition(Query(), 0))


@promise(Guarantee.CONDITIONS)
def a_commit_does_not_break_its_own_condition(bench: Bench) -> None:
    store = bench.store()
    condition = Condition(Query().tags("account:1"), 0)
    receipt = store.append("a", [Deposited(1, 1), Deposited(1, 2)], condition=condition)
    equal(receipt.versions, {"a": 2}, "its own events come after the judgement")


@promise(Guarantee.CONDITIONS)
def conditions_and_versions_are_judged_together(bench: Bench) -> None:
    store = bench.store()
    first = store.append("a", [Deposited(1, 1)])
    holding = Condition(Query().tags("account:1"), first.position)
    broken = Condition(Query().tags("account:1"), 0)
    with raises(ConflictError, "a condition that holds with a belief that doesn't"):
        store.append("a", notes(1), expected=NO_STREAM, condition=holding)
    with raises(ConditionError, "a belief that holds with a condition that doesn't"):
        store.append("a", notes(1), expected=1, condition=broken)
    receipt = store.append("a", notes(1), expected=1, condition=holding)
    equal(receipt.versions, {"a": 2}, "both hold")


@promise(Guarantee.CONDITIONS)
def one_of_two_writers_who_break_each_others_condition_fails(bench: Bench) -> None:
    store = bench.store()
    query = Query().tags("account:1").types(Withdrawn)
    for number in range(5):
        after = (store.head()).position

        def withdraw(after: int = after, number: int = number) -> Receipt:
            return store.append(
                f"w-{number}", [Withdrawn(1, 10)], condition=Condition(query, after)
            )

        outcomes = together(*[withdraw] * 6)
        won = [o for o in outcomes if isinstance(o, Receipt)]
        lost = [o for o in outcomes if isinstance(o, ConditionError)]
        equal((len(won), len(lost)), (1, 5), "one writer wins")
    equal(len(events_of(store, query)), 5, "one withdrawal in each round")


@promise(Guarantee.CONDITIONS)
def a_condition_with_bounds_is_refused(bench: Bench) -> None:
    store = bench.store()
    queries = (
        Query().limit(1),
        Query().backwards(),
        Query().after(1),
        Query().up_to(9),
        Query().from_version(1),
        Query().to_version(1),
        Query().as_at(bench.clock()),
        Query().as_of(bench.clock()),
    )
    for query in queries:
        with raises(InvalidCommitError, f"a condition on {query}"):
            store.append("a", notes(1), condition=Condition(query, 0))
    equal((store.head()).position, 0, "nothing was written")


@promise(Guarantee.CONDITIONS, "shared_by_processes")
def conditions_hold_between_processes(bench: Bench) -> None:
    here = bench.store()
    there = bench.store(backend=bench.another_backend())
    condition = Condition(Query().types(Deposited), 0)
    here.append("a", notes(1), condition=condition)
    there.append("b", [Deposited(1, 1)], condition=condition)
    with raises(ConditionError, "a condition that another process broke"):
        here.append("a", notes(1), condition=condition)
    with raises(ConflictError, "a stream that another process began"):
        here.append("b", notes(1), expected=NO_STREAM)
    here.commit(Commit((Write("b", notes(1), 1),)))
    with raises(ConflictError, "a version that another process passed"):
        there.append("b", notes(1), expected=1)
    equal([e.version for e in events_of(there, "b")], [1, 2], "versions have no holes")
