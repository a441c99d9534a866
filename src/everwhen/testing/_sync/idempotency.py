# Generated from src/everwhen/testing/_async/idempotency.py by tools/unasync.py: edit that, then run `make sync`.
"""Guarantee 5: a commit id given again returns the first result and writes nothing."""

from __future__ import annotations

from uuid import UUID

from everwhen.codec.commits import Commit, Write
from everwhen.testing._sync.bench import Bench, events_of
from everwhen.testing._sync.concurrency import together
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, notes
from everwhen.vocabulary.contract import BatchError, Condition, Receipt
from everwhen.vocabulary.errors import CommitIdError, ConflictError
from everwhen.vocabulary.events import NewEvent
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import NO_STREAM

_ID = UUID("0189f7a2-1111-7abc-8def-000000000001")


@promise(Guarantee.IDEMPOTENT, "joint_commits")
def the_same_commit_again_returns_the_first_receipt(bench: Bench) -> None:
    store = bench.store()
    commit = Commit(
        (Write("a", [Deposited(1, 1)], NO_STREAM), Write("b", notes(2))),
        Condition(Query().stream("a"), 0),
        _ID,
    )
    first = store.commit(commit)
    true(not first.repeated, "the first time it is written")
    equal(first.commit_id, _ID, "under its id")
    bench.clock.advance(60)
    store.append("a", notes(3))
    head = store.head()
    again = store.commit(commit)
    true(again.repeated, "the second time it is only recognised, though its belief is past")
    equal(
        (again.commit_id, again.position, again.recorded_at, again.versions),
        (first.commit_id, first.position, first.recorded_at, first.versions),
        "with the first result",
    )
    equal(store.head(), head, "nothing was written")


@promise(Guarantee.IDEMPOTENT)
def metadata_beliefs_and_times_may_differ_in_a_repetition(bench: Bench) -> None:
    store = bench.store()
    first = store.append("a", notes(2), commit_id=_ID, metadata=CommitMetadata(user_id="x"))
    again = store.append(
        "a", notes(2), commit_id=_ID, expected=7, metadata=CommitMetadata(user_id="y")
    )
    true(again.repeated, "a second attempt is made at another time and place")
    equal(again.position, first.position, "and gets the first result")
    equal((events_of(store))[0].metadata.user_id, "x", "what is stored stays")


@promise(Guarantee.IDEMPOTENT, "joint_commits")
def the_same_id_with_other_content_is_refused(bench: Bench) -> None:
    store = bench.store()
    first = store.commit(Commit((Write("a", notes(2)), Write("b", notes(1))), id=_ID))
    before = store.head()
    others = (
        (Write("a", notes(2)),),
        (Write("b", notes(1)), Write("a", notes(2))),
        (Write("a", notes(3)), Write("b", notes(1))),
        (Write("a", notes(1)), Write("b", notes(1))),
        (Write("a", notes(2)), Write("c", notes(1))),
        (Write("a", notes(2)), Write("b", notes(1)), Write("c", notes(1))),
        (Write("a", notes(2)), Write("b", [Noted("note 2")])),
        (Write("a", notes(2)), Write("b", [NewEvent(event=Noted("note 1"), tags=("t",))])),
    )
    for writes in others:
        with raises(CommitIdError, f"the id of another commit for {writes}") as caught:
            store.commit(Commit(writes, id=_ID))
        equal(caught.error.commit_id, _ID, "the error names the id")
        equal(caught.error.position, first.position, "and where it was used")
        equal(store.head(), before, "nothing was written")


@promise(Guarantee.IDEMPOTENT, "joint_commits")
def big_commits_are_recognised_too(bench: Bench) -> None:
    store = bench.store()
    commit = Commit((Write("a", notes(2_100)), Write("b", notes(1_001))), id=_ID)
    first = store.commit(commit)
    store.append("a", notes(1))
    again = store.commit(commit)
    true(again.repeated, "all slices of it are compared")
    equal((again.position, again.versions), (first.position, first.versions), "the first result")
    with raises(CommitIdError, "another event in the last slice"):
        store.commit(
            Commit((Write("a", notes(2_100)), Write("b", [*notes(1_000), Noted("?")])), id=_ID)
        )


@promise(Guarantee.IDEMPOTENT)
def ids_are_known_within_one_batch(bench: Bench) -> None:
    store = bench.store()
    same = Commit((Write("a", notes(2)),), id=_ID)
    first, other, again = store.commit_batch([same, Commit((Write("a", notes(1)),)), same])
    true(again.repeated, "the second of the same is recognised")
    equal((again.position, again.versions), (first.position, first.versions), "the first result")
    equal(other.versions, {"a": 3}, "what stands between is written")
    with raises(BatchError, "the same id with other content in a batch") as caught:
        store.commit_batch(
            [
                Commit((Write("b", notes(1)),), id=UUID(int=5)),
                Commit((Write("b", notes(2)),), id=UUID(int=5)),
            ]
        )
    kinds = [type(outcome) for outcome in caught.error.outcomes]
    equal(kinds, [Receipt, CommitIdError], "the first is written, the second refused")
    equal(store.version("b"), 1, "once")


@promise(Guarantee.IDEMPOTENT)
def an_id_is_free_after_its_commit_was_refused(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(1))
    refused = Commit((Write("a", notes(1), NO_STREAM),), id=_ID)
    with raises(BatchError, "a refused commit, then another with its id") as caught:
        store.commit_batch([refused, Commit((Write("b", notes(2)),), id=_ID)])
    true(isinstance(caught.error.outcomes[1], Receipt), "nothing of a refused commit stays")
    equal(store.version("b"), 2, "the second is written")


@promise(Guarantee.IDEMPOTENT)
def many_writers_with_the_same_id_write_once(bench: Bench) -> None:
    store = bench.store()

    def append() -> Receipt:
        return store.append("a", notes(3), commit_id=_ID)

    outcomes = together(*[append] * 8)
    receipts = [o for o in outcomes if isinstance(o, Receipt)]
    equal(len(receipts), 8, "everyone gets a receipt")
    equal(len({r.position for r in receipts}), 1, "the same one")
    equal(sorted(r.repeated for r in receipts), [False] + [True] * 7, "one of them wrote")
    equal(store.version("a"), 3, "once")


@promise(Guarantee.IDEMPOTENT)
def fresh_ids_are_given_where_there_is_none(bench: Bench) -> None:
    store = bench.store()
    receipts = [store.append("a", notes(1)) for _ in range(20)]
    equal(len({r.commit_id for r in receipts}), 20, "each commit gets an id of its own")
    recorded = events_of(store)
    equal(
        [e.event_id for e in recorded],
        [f"{r.commit_id}/0" for r in receipts],
        "event ids follow from the commit's",
    )


@promise(Guarantee.IDEMPOTENT, "joint_commits")
def a_commit_is_found_by_its_id(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(1))
    written = store.commit(Commit((Write("a", notes(2)), Write("b", notes(1_001))), id=_ID))
    store.append("b", notes(1))
    equal(store.receipt(_ID), written, "its receipt, as it was given")
    found = store.commit_events(_ID)
    equal(
        [(e.stream, e.version) for e in found],
        [("a", 2), ("a", 3), *(("b", version) for version in range(1, 1_002))],
        "and all that it wrote, in order",
    )
    equal({e.commit_id for e in found}, {_ID}, "and nothing else")
    equal(store.receipt(UUID(int=9)), None, "no commit was written with this id")
    equal(store.commit_events(UUID(int=9)), [], "nor anything in it")
    with raises(ConflictError, "a belief that is wrong"):
        store.append("a", notes(1), expected=NO_STREAM, commit_id=UUID(int=9))
    equal(store.receipt(UUID(int=9)), None, "a refused commit leaves nothing")
