# Generated from src/everwhen/testing/_async/atomic.py by tools/unasync.py: edit that, then run `make sync`.
"""Guarantee 1: a commit is visible whole or not at all, over all its streams."""

from __future__ import annotations

import itertools

from everwhen.codec.commits import Commit, Write
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.testing._sync.bench import Bench, events_of, typed
from everwhen.testing._sync.concurrency import Beside
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, Withdrawn, notes
from everwhen.vocabulary.contract import BatchError, Condition
from everwhen.vocabulary.errors import ConditionError, ConflictError
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import ANY, EXISTS, NO_STREAM


@promise(Guarantee.ATOMIC, "joint_commits")
def several_streams_are_written_in_one_commit(bench: Bench) -> None:
    store = bench.store()
    receipt = store.commit(
        Commit(
            (
                Write("account-1", [Withdrawn(1, 5)], NO_STREAM),
                Write("account-2", [Deposited(2, 5), Noted("thanks")]),
            )
        )
    )
    recorded = events_of(store)
    equal(
        [(e.stream, e.version, e.event) for e in recorded],
        [
            ("account-1", 1, Withdrawn(1, 5)),
            ("account-2", 1, Deposited(2, 5)),
            ("account-2", 2, Noted("thanks")),
        ],
        "all events of a commit are there, in the order they were given",
    )
    equal(receipt.versions, {"account-1": 1, "account-2": 2}, "the receipt has the new versions")
    equal(receipt.position, recorded[-1].position, "the receipt's position is the last event's")
    equal({e.commit_id for e in recorded}, {receipt.commit_id}, "each event knows its commit")
    equal({e.recorded_at for e in recorded}, {receipt.recorded_at}, "one commit, one time")


@promise(Guarantee.ATOMIC, "joint_commits")
def streams_may_be_written_in_turns(bench: Bench) -> None:
    store = bench.store()
    store.append("a", notes(2))
    receipt = store.commit(
        Commit(
            (
                Write("a", [Noted("3")], 2),
                Write("b", [Noted("1"), Noted("2")], NO_STREAM),
                Write("a", [Noted("4")]),
                Write("b", [Noted("3")]),
            )
        )
    )
    equal(
        [(e.stream, e.version) for e in events_of(store, Query().after(2))],
        [("a", 3), ("b", 1), ("b", 2), ("a", 4), ("b", 3)],
        "the events of a commit are in the order they were given, whatever their streams",
    )
    equal(receipt.versions, {"a": 4, "b": 3}, "the receipt has the last versions")
    equal(
        [e.version for e in events_of(store, Query().stream("a"))],
        [1, 2, 3, 4],
        "a stream has no holes",
    )
    equal(
        [e.event_id for e in store.commit_events(receipt.commit_id)],
        [f"{receipt.commit_id}/{n}" for n in range(5)],
        "each event has an id of its own",
    )


@promise(Guarantee.ATOMIC, "joint_commits")
def one_wrong_belief_refuses_all_streams(bench: Bench) -> None:
    store = bench.store()
    store.append("b", notes(1))
    before = store.head()
    with raises(ConflictError, "a commit with one wrong belief") as caught:
        store.commit(
            Commit((Write("a", notes(1)), Write("b", notes(1), NO_STREAM), Write("c", notes(1))))
        )
    equal(caught.error.stream, "b", "the error names the stream")
    equal(store.head(), before, "nothing of a refused commit is written")
    equal(store.version("a"), 0, "nothing of it on the streams before the wrong one")
    equal(store.version("c"), 0, "nothing of it on the streams after the wrong one")


@promise(Guarantee.ATOMIC)
def a_guard_without_events_refuses_the_commit(bench: Bench) -> None:
    store = bench.store()
    store.append("guard", notes(2))
    with raises(ConflictError, "a guard that doesn't hold") as caught:
        store.commit(Commit((Write("guard", [], 1), Write("a", notes(1)))))
    equal((caught.error.stream, caught.error.actual), ("guard", 2), "the error says what is")
    equal(store.version("a"), 0, "nothing is written")
    receipt = store.commit(Commit((Write("guard", [], 2), Write("a", notes(1)))))
    equal(receipt.versions, {"a": 1}, "a guard that holds writes nothing to its own stream")
    receipt = store.commit(
        Commit((Write("a", notes(1)), Write("guard", (), EXISTS), Write("none", (), NO_STREAM)))
    )
    equal(receipt.versions, {"a": 2}, "guards may stand anywhere in the commit")
    equal(store.version("guard"), 2, "a guard doesn't move its stream")
    equal(store.stream("none"), None, "a guard doesn't make a stream")


@promise(Guarantee.ATOMIC, "joint_commits")
def a_commit_larger_than_a_slice_stays_whole(bench: Bench) -> None:
    store = bench.store()
    many = notes(2_345)
    receipt = store.commit(Commit((Write("big", many), Write("other", notes(3)))))
    recorded = events_of(store)
    equal(len(recorded), 2_348, "every event of a big commit is there")
    equal([e.event for e in recorded[:2_345]], many, "in order")
    first = recorded[0].position
    equal(
        [e.position for e in recorded],
        list(range(first, first + 2_348)),
        "the events of one commit have contiguous positions",
    )
    equal([e.version for e in recorded[:2_345]], list(range(1, 2_346)), "and versions")
    equal(len({e.event_id for e in recorded}), 2_348, "each event has an id of its own")
    equal(receipt.versions, {"big": 2_345, "other": 3}, "the receipt counts all slices")


@promise(Guarantee.ATOMIC)
def a_commit_of_several_megabytes_stays_whole(bench: Bench) -> None:
    store = bench.store()
    texts = [f"{number}:" + chr(97 + number) * 300_000 for number in range(9)]
    store.append("heavy", [Noted(text) for text in texts])
    equal([e.text for e in typed(store)], texts, "large events come back as they went in")
    backwards = typed(store, Query().backwards().limit(3))
    equal([e.text[0] for e in backwards], ["8", "7", "6"], "also from the end")


@promise(Guarantee.ATOMIC, "joint_commits")
def a_reader_never_sees_half_a_commit(bench: Bench) -> None:
    store = bench.store()
    rounds = 30

    def write() -> None:
        for number in range(rounds):
            store.commit(
                Commit((Write("left", notes(3, number)), Write("right", notes(2, number))))
            )

    def look() -> list[RecordedEvent[object]]:
        while True:
            seen = events_of(store)
            true(len(seen) % 5 == 0, f"{len(seen)} events are no whole number of commits")
            if len(seen) == 5 * rounds:
                return seen

    writing, looking = Beside(write), Beside(look)
    writing.result()
    equal(len(looking.result()), 5 * rounds, "the reader sees all commits in the end")


@promise(Guarantee.ATOMIC, "joint_commits")
def a_batch_writes_each_commit_on_its_own_terms(bench: Bench) -> None:
    store = bench.store()
    with raises(BatchError, "a batch with two commits that can't be written") as caught:
        store.commit_batch(
            [
                Commit((Write("a", notes(2), NO_STREAM),)),
                Commit((Write("a", notes(1), NO_STREAM),)),
                Commit((Write("a", notes(1), 2), Write("b", notes(1)))),
                Commit((Write("c", notes(1)),), Condition(Query().stream("b"), 0)),
                Commit((Write("c", notes(1), ANY),)),
            ]
        )
    outcomes = caught.error.outcomes
    kinds = [type(outcome).__name__ for outcome in outcomes]
    equal(
        kinds,
        ["Receipt", "ConflictError", "Receipt", "ConditionError", "Receipt"],
        "a batch says in order what became of each commit",
    )
    true(isinstance(outcomes[3], ConditionError), "conditions see earlier commits of the batch")
    equal(
        [(e.stream, e.version) for e in events_of(store)],
        [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1)],
        "the others are written, in the order of the batch",
    )


@promise(Guarantee.ATOMIC)
def a_batch_gives_a_receipt_for_each_commit(bench: Bench) -> None:
    store = bench.store()
    equal(store.commit_batch([]), [], "an empty batch does nothing")
    commits = bench.commits(300)
    receipts = store.commit_batch(
        Commit((Write(f"s-{number % 7}", notes(1 + number % 3)),)) for number in range(commits)
    )
    recorded = events_of(store)
    equal(len(receipts), commits, "one receipt for each commit")
    ends = {e.commit_id: e.position for e in recorded}
    equal([ends[r.commit_id] for r in receipts], [r.position for r in receipts], "where it ends")
    true(
        all(a.position < b.position for a, b in itertools.pairwise(receipts)),
        "commits of a batch keep their order",
    )
