"""What a bus knows by heart of the log's end is what the store would say, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from everwhen import Event, EventTypes, NewEvent, Query, Store, UnknownEvent, Write, open_store
from everwhen.codec.commits import Commit
from everwhen.commands.recent_writes import RecentWrites


class Noted(Event):
    tag_fields = ("who",)

    who: str
    number: int = 0


class Struck(Event):
    who: str


TYPES = EventTypes(Noted, Struck)
EVENTS = st.one_of(
    st.builds(Noted, st.sampled_from("ab")),
    st.builds(Struck, st.sampled_from("ab")),
    st.builds(NewEvent, event=st.builds(Noted, st.sampled_from("ab")), tags=st.just(("extra",))),
    st.just(UnknownEvent("Other", {})),
)
WRITES = st.lists(
    st.builds(Write, st.sampled_from(["x-1", "y-1"]), st.lists(EVENTS, min_size=1, max_size=3)),
    min_size=1,
    max_size=2,
)
QUERIES = [
    Query().tags("who:a"),
    Query().tags("who:a", "extra"),
    Query().tags("who:b").types(Noted).category("x"),
    Query().tags("who:a") | Query().tags("extra").stream("y-1"),
]


def stored(store: Store, query: Query) -> list[object]:
    return [event.event for event in store.read(query)]


@given(st.lists(st.tuples(WRITES, st.booleans()), max_size=12), st.integers(1, 9))
def test_what_is_known_by_heart(commits: list[tuple[list[Write], bool]], size: int) -> None:
    recent = RecentWrites(TYPES, size=size)
    with open_store("memory:", events=TYPES) as store:
        for writes, is_mine in commits:
            receipt = store.commit(Commit(writes))
            known = recent.written(writes, receipt) if is_mine else None
            if known is None:
                continue
            recent.add(known, receipt._recorded_at)
            assert recent.end == receipt.position
            assert [(k.position, k.event, k.stream) for k in known] == [
                (event.position, event.event, event.stream)
                for event in store.read(Query().after(receipt.position - len(known)))
            ]
        for query in QUERIES:
            for after in range(recent.end + 2):
                found = recent.since(query, after)
                if found is not None:
                    until = query.after(after).up_to(recent.end)
                    assert found[:2] == (stored(store, until), recent.end)
            if recent.end:
                assert recent.since(query, recent.end) is not None


def test_what_it_does_not_know_it_does_not_say() -> None:
    recent = RecentWrites(TYPES)
    with open_store("memory:", events=TYPES) as store:

        def write(events: Sequence[Event], *, is_mine: bool = True) -> None:
            receipt = store.append("x-1", events)
            known = recent.written([Write("x-1", events)], receipt)
            if is_mine and known is not None:
                recent.add(known, receipt._recorded_at)

        mine = Query().tags("who:a")
        write([Noted("a", 1)])
        write([Noted("a", 2)])
        assert recent.since(mine, 0) == ([Noted("a", 1), Noted("a", 2)], 2, recent.recorded_at)
        assert recent.since(Query(), 0) is None
        assert recent.since(mine.up_to(2), 0) is None
        assert recent.since(mine, 3) is None
        write([Noted("a", 3)], is_mine=False)
        write([Noted("a", 4)])
        assert recent.since(mine, 2) is None
        assert recent.since(mine, 3) == ([Noted("a", 4)], 4, recent.recorded_at)
        late = recent.written([Write("x-1", [Noted("a", 3)])], store.append("x-2", [Noted("b")]))
        assert late is not None
        recent.add([known._replace(position=3) for known in late], 0)
        assert recent.since(mine, 3) == ([Noted("a", 4)], 4, recent.recorded_at)
