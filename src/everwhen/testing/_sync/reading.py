# Generated from src/everwhen/testing/_async/reading.py by tools/unasync.py: edit that, then run `make sync`.
"""Reading: every filter, bound, direction and limit, checked against a plain list of facts."""

from __future__ import annotations

import itertools
from datetime import timedelta

from everwhen.codec.commits import Commit, Write
from everwhen.codec.recorded_events import RecordedEvent, causation
from everwhen.store._sync.store import Store
from everwhen.testing._sync.bench import Bench, events_of
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.generators import FILTERS, Bounds, Fact, wanted_facts, written_events
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, notes, plain
from everwhen.vocabulary.contract import Condition
from everwhen.vocabulary.errors import ConditionError
from everwhen.vocabulary.events import NewEvent
from everwhen.vocabulary.metadata import CommitMetadata, context
from everwhen.vocabulary.query import Query, Selector


def _written(bench: Bench) -> list[Fact]:
    """A store with long and short slices of several streams, and what is in it."""
    store = bench.store()
    facts: list[Fact] = []
    versions: dict[str, int] = {}
    for batch in range(bench.commits(108) // 9):
        bench.clock.advance(1)
        commits = [
            Commit([Write(stream, events) for stream, events in writes])
            for writes in written_events(batch, bench.clock())
        ]
        if not store.capabilities.joint_commits:
            commits = [Commit([write]) for commit in commits for write in commit.writes]
        receipts = store.commit_batch(commits)
        for commit, receipt in zip(commits, receipts, strict=True):
            count = sum(len(write.events) for write in commit.writes)
            position = receipt.position - count
            for write in commit.writes:
                for new in write.events:
                    position += 1
                    versions[write.stream] = versions.get(write.stream, 0) + 1
                    version = versions[write.stream]
                    facts.append(Fact.of(write.stream, version, position, receipt.recorded_at, new))
    return facts


def _place(event: RecordedEvent[object]) -> tuple[int, str, int]:
    return event.position, event.stream, event.version


@promise(Guarantee.ORDER)
def everything_comes_back_as_it_was_written(bench: Bench) -> None:
    facts = _written(bench)
    recorded = events_of(bench.store())
    equal([Fact.read(event) for event in recorded], facts, "each event, in order, unchanged")
    backwards = events_of(bench.store(), Query().backwards())
    equal(backwards, recorded[::-1], "backwards is the same in reverse")


@promise(Guarantee.ORDER)
def every_filter_finds_exactly_its_events(bench: Bench) -> None:
    facts = _written(bench)
    store = bench.store()
    for selection in FILTERS:
        wanted = [fact.place for fact in facts if selection.takes(fact)]
        found = [_place(e) for e in events_of(store, selection.query)]
        equal(found, wanted, f"{selection.query}")
        found = [_place(e) for e in events_of(store, selection.query.backwards())]
        equal(found, wanted[::-1], f"backwards, {selection.query}")


@promise(Guarantee.ORDER)
def bounds_cut_through_slices_exactly(bench: Bench) -> None:
    facts = _written(bench)
    store = bench.store()
    last = facts[-1].position
    places = (0, 1, facts[2].position, last // 3, last // 2 + 7, last - 1, last, last + 9, 1 << 80)
    for selection in FILTERS[::2]:
        taken = [fact for fact in facts if selection.takes(fact)]
        for after, up_to in itertools.product(places[::2], places[1::2]):
            bounds = Bounds(after=after, up_to=up_to)
            _compare(store, taken, selection.query, bounds)
        for least, most in itertools.product((0, 1, 2, 40, 1 << 80), (1, 3, 41, 1 << 80)):
            bounds = Bounds(from_version=least, to_version=most)
            _compare(store, taken, selection.query, bounds)
    equal((store.head()).position, last, "reading changes nothing")


@promise(Guarantee.ORDER)
def limits_and_bounds_join_in_every_combination(bench: Bench) -> None:
    facts = _written(bench)
    store = bench.store()
    last = facts[-1].position
    moment = facts[len(facts) // 2].recorded_at
    for selection in FILTERS[1::3]:
        taken = [fact for fact in facts if selection.takes(fact)]
        for limit, after, version, as_at, as_of in itertools.product(
            (1, 7, 2_500), (0, last // 2), (None, 5), (None, moment), (None, moment)
        ):
            bounds = Bounds(
                after=after,
                up_to=last - 3,
                from_version=version,
                as_at=as_at,
                as_of=as_of - timedelta(hours=1) if as_of else None,
                limit=limit,
            )
            _compare(store, taken, selection.query, bounds)


def _compare(store: Store, taken: list[Fact], query: Query, bounds: Bounds) -> None:
    """Reads within the bounds, both ways; ``taken`` is what the query takes without any."""
    for backwards in (False, True):
        wanted = wanted_facts(taken, bounds, backwards=backwards)
        asked = bounds.applied(query.backwards() if backwards else query)
        found = [_place(event) for event in events_of(store, asked)]
        equal(found, [fact.place for fact in wanted], f"{asked}")


@promise(Guarantee.ORDER)
def pages_join_to_the_same_events(bench: Bench) -> None:
    _written(bench)
    store = bench.store()
    for query in (Query(), Query().types(Noted), Query().category("a").backwards()):
        pages = [page for page in store.read_pages(query)]
        true(all(pages), "no page is empty")
        joined = [event for page in pages for event in page]
        equal(joined, events_of(store, query), "pages are the same events")


@promise(Guarantee.ORDER)
def a_streams_name_stands_for_its_events(bench: Bench) -> None:
    store = bench.store()
    store.append("a-1", notes(2))
    store.append("a-10", notes(1))
    equal([e.version for e in events_of(store, "a-1")], [1, 2], "that stream")
    equal(events_of(store, "a"), [], "a category is no stream")
    equal(events_of(store, "none"), [], "an unknown stream has no events")
    equal(events_of(store, Query().limit(0)), [], "no events, if none are asked for")


@promise(Guarantee.ORDER)
def an_empty_store_reads_as_empty(bench: Bench) -> None:
    store = bench.store()
    queries = (
        Query(), Query().backwards(), Query().stream("a"), Query().tags("t"), Query().up_to(0),
        Query().after(5), Query().as_at(bench.clock()), Query().types("T").limit(3).backwards(),
    )  # fmt: skip
    for query in queries:
        equal(events_of(store, query), [], f"{query}")
    equal([info for info in store.streams()], [], "no streams")
    equal(store.check(), [], "no faults")


@promise(Guarantee.ORDER)
def metadata_comes_back_with_the_event(bench: Bench) -> None:
    store = bench.store()
    own = NewEvent(event=Noted("x"), event_id="mine/1", tags=("t", "ü"), extras={"k": [1, None]})
    given = CommitMetadata(user_id="ann", source="web", extras={"k": "commit", "more": True})
    receipt = store.append("a", [own, Deposited(1, 2)], metadata=given)
    first, second = events_of(store)
    equal((first.event_id, second.event_id), ("mine/1", f"{receipt.commit_id}/1"), "event ids")
    equal((first.tags, second.tags), (("t", "ü"), ("account:1",)), "tags")
    equal(first.metadata.extras, {"k": [1, None], "more": True}, "the event's extras go over")
    equal(second.metadata.extras, {"k": "commit", "more": True}, "the commit's extras")
    equal((first.metadata.user_id, first.metadata.source), ("ann", "web"), "who and from where")
    equal(first.metadata.correlation_id, str(receipt.commit_id), "a conversation of its own")
    equal(first.metadata.causation_id, None, "that nothing caused")
    with causation(first), context(user_id="bob"):
        store.append("b", notes(1))
    caused = (events_of(store, "b"))[0].metadata
    equal(
        (caused.causation_id, caused.correlation_id, caused.user_id),
        ("mine/1", str(receipt.commit_id), "bob"),
        "cause, conversation and user flow by themselves",
    )


def _wide_queries() -> list[tuple[str, Query, list[int]]]:
    """Queries of many tags or many alternatives, with the numbers of `_numbered` that match."""
    numbers = range(_NUMBERED)

    def either(*parts: tuple[dict[str, str], int]) -> Query:
        named = (({part: frozenset({name}) for part, name in s.items()}, n) for s, n in parts)
        return Query(tuple(Selector(**names) for names, _ in named))

    wide = [f"wide:{tag}" for tag in range(300)]
    by_tag = [({"tags": f"n:{n}"}, n) for n in range(0, 900, 3)]
    by_stream = [({"streams": f"s-{n % 90}", "tags": f"n:{n}"}, n) for n in range(0, 600, 2)]
    by_type = [({"types": f"T{n % 90}", "categories": "s"}, n) for n in range(70)]
    of_types = {n for n in numbers if n % 90 < 70}
    by_category = [({"categories": "s", "types": f"T{n}", "tags": f"n:{n}"}, n) for n in range(70)]
    missing = [({"tags": f"missing:{n}", "streams": f"s-{n}"}, n) for n in range(100)]
    pairs = Query(tuple(Selector(tags=frozenset({"all", f"n:{n}"})) for n in range(100)))
    return [
        ("two tags", Query().tags("all", "n:7"), [7]),
        ("65 tags", Query().tags(*wide[:65]), [_WIDE]),
        ("300 tags", Query().tags(*wide), [_WIDE]),
        ("300 tags and one that is missing", Query().tags("missing", *wide), []),
        ("300 tags or a stream", Query().tags(*wide) | Query().tags("n:3"), [3, _WIDE]),
        ("tags", either(*by_tag), [n for _, n in by_tag]),
        ("streams and tags", either(*by_stream), [n for _, n in by_stream]),
        ("types", either(*by_type), sorted(of_types)),
        ("categories, types and tags", either(*by_category), list(range(70))),
        ("nothing", either(*missing), []),
        ("pairs of tags", pairs, list(range(100))),
        ("all kinds", either(*by_tag, *by_type), sorted({n for _, n in by_tag} | of_types)),
        ("anything", either(*by_tag, ({}, 0)), list(numbers)),
    ]


_NUMBERED = 1_200
_WIDE = 1_000


def _numbered(bench: Bench) -> Store:
    """Events 0 to 1,199, each of a type, in a stream and with tags that name it."""
    store = bench.store()
    tags = {_WIDE: tuple(f"wide:{tag}" for tag in range(300))}
    store.commit_batch(
        Commit(
            (
                Write(
                    f"s-{n % 90}",
                    [
                        NewEvent(
                            event=plain(f"T{n % 90}", n=n),
                            tags=("all", f"n:{n}", *tags.get(n, ())),
                        )
                    ],
                ),
            )
        )
        for n in range(_NUMBERED)
    )
    return store


@promise(Guarantee.ORDER)
def many_tags_and_alternatives_find_exactly_their_events(bench: Bench) -> None:
    store = _numbered(bench)
    for what, query, numbers in _wide_queries():
        places = [n + 1 for n in numbers]
        found = [e.position for e in events_of(store, query)]
        equal(found, places, what)
        found = [e.position for e in events_of(store, query.backwards())]
        equal(found, places[::-1], f"backwards, {what}")
        bounded = query.after(100).up_to(1_100)
        found = [e.position for e in events_of(store, bounded)]
        equal(found, [p for p in places if 100 < p <= 1_100], f"with bounds, {what}")
        if places:
            first = next(iter(events_of(store, query.limit(1))))
            equal(first.position, places[0], f"the first, {what}")


@promise(Guarantee.CONDITIONS)
def many_tags_and_alternatives_hold_as_conditions(bench: Bench) -> None:
    store = _numbered(bench)
    for what, query, numbers in _wide_queries():
        last = numbers[-1] + 1 if numbers else 0
        if last:
            with raises(ConditionError, what) as caught:
                store.append("x", notes(1), condition=Condition(query, last - 1))
            equal(caught.error.position, last, f"the last of its events, {what}")
        if query.selectors[-1] != Selector():
            store.append("x", notes(1), condition=Condition(query, last))


@promise(Guarantee.SUBSCRIPTIONS)
def subscriptions_take_many_tags_and_alternatives(bench: Bench) -> None:
    store = _numbered(bench)
    for what, query, numbers in _wide_queries():
        with store.subscribe(query) as following:
            for number in numbers:
                event = next(following)
                equal(event.position, number + 1, f"followed, {what}")
