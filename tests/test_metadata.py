"""Who, why and from where: it flows by itself, and stays where it belongs."""

from __future__ import annotations

import asyncio
import threading
from uuid import uuid4

from everwhen import Event, Store, aio, context, open_store
from everwhen.codec import Metadata, causation
from everwhen.vocabulary import CommitMetadata


class Done(Event):
    what: str


def last(store: Store) -> Metadata:
    return list(store.read())[-1].metadata


def test_contexts_nest_and_end() -> None:
    with open_store("memory:", events=[Done]) as store:
        with context(user_id="ann", source="web", extras={"a": 1, "b": 1}):
            with context(user_id="ben", extras={"b": 2}):
                store.append("s", [Done("inner")])
                inner = last(store)
            store.append("s", [Done("outer")])
            outer = last(store)
        store.append("s", [Done("none")])
        none = last(store)
    assert (inner.user_id, inner.source, inner.extras) == ("ben", "web", {"a": 1, "b": 2})
    assert (outer.user_id, outer.extras) == ("ann", {"a": 1, "b": 1})
    assert (none.user_id, none.source, none.extras) == (None, None, {})
    assert none.correlation_id == str(none.commit_id), "a conversation of its own"


def test_a_chain_of_causes_is_one_correlation() -> None:
    with open_store("memory:", events=[Done]) as store:
        store.append("s", [Done("first")], metadata=CommitMetadata(correlation_id="order 7"))
        for step in range(3):
            with causation(list(store.read())[-1]):
                store.append("s", [Done(str(step))])
        events = list(store.read())
    assert {e.metadata.correlation_id for e in events} == {"order 7"}
    causes = [e.metadata.causation_id for e in events]
    assert causes == [None, *(e.event_id for e in events[:-1])]


def test_what_is_given_wins_over_what_flows() -> None:
    with open_store("memory:", events=[Done]) as store, context(user_id="ann", source="web"):
        store.append("s", [Done("x")], metadata=CommitMetadata(user_id="root"))
        assert (last(store).user_id, last(store).source) == ("root", "web")


def test_a_repeated_commit_is_recognised_in_another_context() -> None:
    commit_id = uuid4()
    with open_store("memory:", events=[Done]) as store:
        store.append("s", [Done("x")], commit_id=commit_id)
        with context(user_id="ann"):
            assert store.append("s", [Done("x")], commit_id=commit_id).repeated
        assert last(store).user_id is None


def test_threads_begin_without_a_context() -> None:
    with open_store("memory:", events=[Done]) as store, context(user_id="ann"):
        thread = threading.Thread(target=store.append, args=("s", [Done("x")]))
        thread.start()
        thread.join()
        assert last(store).user_id is None


async def test_each_task_has_its_own_context() -> None:
    async with aio.open_store("memory:", events=[Done]) as store:

        async def work(user: str) -> None:
            with context(user_id=user):
                for _ in range(5):
                    await store.append(f"s-{user}", [Done(user)])
                    await asyncio.sleep(0)

        await asyncio.gather(*(work(user) for user in "abc"))
        events = [event async for event in store.read()]
    assert len(events) == 15
    assert all(e.metadata.user_id == e.event.what for e in events)
