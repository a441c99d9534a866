"""Guarantee 3: versions have no holes, and a wrong belief writes nothing."""

from __future__ import annotations

from everwhen.codec.commits import Commit, Write
from everwhen.testing._async.bench import Bench, events_of
from everwhen.testing._async.concurrency import together
from everwhen.testing.checks import equal, raises
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import notes
from everwhen.vocabulary.contract import Receipt, StreamInfo
from everwhen.vocabulary.errors import ConflictError
from everwhen.vocabulary.streams import ANY, EXISTS, NO_STREAM, ExpectedVersion

NAMES = (
    "a", "a-", "a-1", "a-10", "a-2", "a-b", "a-b-c", "a.b-1", "ab", "ab-1", "b-1", "-1",
    "it's", 'say "hi"', "100% _like_ [x]", "two words-1", "ünïcode-ß", "日本-東京", "🎲-7",
    "semi;colon--", "back\\slash", "$.path[0]", "null", "A-1", "x" * 512, "é" * 256,
)  # fmt: skip


@promise(Guarantee.VERSIONS)
async def right_beliefs_are_accepted(bench: Bench) -> None:
    store = await bench.store()
    beliefs: list[ExpectedVersion] = [NO_STREAM, 1, EXISTS, ANY, 4, EXISTS]
    for number, belief in enumerate(beliefs):
        receipt = await store.append("a", notes(1), expected=belief)
        equal(receipt.versions, {"a": number + 1}, f"{belief!r} at version {number} holds")
    receipt = await store.append("b", notes(2), expected=0)
    equal(receipt.versions, {"b": 2}, "version 0 is a stream without events")
    equal(
        [e.version for e in await events_of(store, "a")],
        [1, 2, 3, 4, 5, 6],
        "versions are 1, 2, 3 … without holes",
    )


@promise(Guarantee.VERSIONS)
async def wrong_beliefs_write_nothing(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a", notes(3))
    before = await store.head()
    for stream, belief, actual in (
        ("a", NO_STREAM, 3),
        ("a", 0, 3),
        ("a", 2, 3),
        ("a", 4, 3),
        ("a", 1 << 80, 3),
        ("new", EXISTS, 0),
        ("new", 1, 0),
    ):
        wanted: ExpectedVersion = belief
        with raises(ConflictError, f"{wanted!r} for a stream at version {actual}") as caught:
            await store.append(stream, notes(1), expected=wanted)
        error = caught.error
        equal(
            (error.stream, error.expected, error.actual),
            (stream, wanted, actual),
            "the error carries the stream, the belief and the truth",
        )
        equal(await store.head(), before, "nothing was written")
    receipt = await store.append("a", notes(1), expected=3)
    equal(receipt.versions, {"a": 4}, "a refused append leaves no hole")


@promise(Guarantee.VERSIONS)
async def one_of_many_writers_with_the_same_belief_wins(bench: Bench) -> None:
    store = await bench.store()
    for version in range(5):

        async def append(belief: int = version) -> Receipt:
            return await store.append("a", notes(1), expected=belief)

        outcomes = await together(*[append] * 8)
        won = [o for o in outcomes if isinstance(o, Receipt)]
        lost = [o for o in outcomes if isinstance(o, ConflictError)]
        equal((len(won), len(lost)), (1, 7), "one writer wins, the others get a conflict")
        equal({error.actual for error in lost}, {version + 1}, "the losers learn the new version")
    equal(await store.version("a"), 5, "five rounds, five events")


@promise(Guarantee.VERSIONS)
async def a_stream_says_where_it_stands(bench: Bench) -> None:
    store = await bench.store()
    equal(await store.stream("a-1"), None, "an unknown stream is none")
    equal(await store.version("a-1"), 0, "and has version 0")
    await store.append("a-1", notes(2))
    bench.clock.advance(5)
    receipt = await store.append("a-1", notes(1_500))
    await store.append("a-2", notes(1))
    info = await store.stream("a-1")
    wanted = StreamInfo("a-1", 1_502, receipt.position, receipt.recorded_at)
    equal(info, wanted, "version, position and time of its last event")
    equal(wanted.category, "a", "the category is what stands before the first -")


@promise(Guarantee.VERSIONS)
async def streams_are_listed_by_name(bench: Bench) -> None:
    store = await bench.store()
    for name in NAMES:
        await store.append(name, notes(1))
    await store.append("a-b", notes(2))
    listed = [info async for info in store.streams()]
    equal([info.name for info in listed], sorted(NAMES), "every stream once, in order")
    equal({i.name: i.version for i in listed}["a-b"], 3, "with its version")
    for info in listed:
        equal(info, await store.stream(info.name), "a listing says what the stream itself says")
        recorded = await events_of(store, info.name)
        equal([e.stream for e in recorded], [info.name] * info.version, "names come back exactly")


@promise(Guarantee.VERSIONS)
async def streams_of_a_category_are_its_own(bench: Bench) -> None:
    store = await bench.store()
    for name in NAMES:
        await store.append(name, notes(1))
    for category in ("a", "ab", "a.b", "b", "日本", "two words", "A", "a-b", "a-", "none", "it's"):
        equal(
            [info.name async for info in store.streams(category)],
            sorted(name for name in NAMES if name.partition("-")[0] == category),
            f"the streams of category {category!r}",
        )


@promise(Guarantee.VERSIONS)
async def more_streams_than_a_page_are_listed_once_each(bench: Bench) -> None:
    store = await bench.store()
    names = [f"{'many' if number % 6 else 'few'}-{number}" for number in range(1_300)]
    size = len(names) // bench.commits(len(names))
    await store.commit_batch(
        Commit([Write(name, notes(1)) for name in names[start : start + size]])
        for start in range(0, len(names), size)
    )
    listed = [info.name async for info in store.streams()]
    equal(listed, sorted(names), "all streams, across pages")
    many = [info.name async for info in store.streams("many")]
    equal(many, sorted(n for n in names if n.startswith("many")), "and of one category")
