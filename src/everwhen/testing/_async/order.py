"""Guarantee 6: once position p was seen, nothing new appears at or below it."""

from __future__ import annotations

from everwhen.codec.commits import Commit, Write
from everwhen.testing._async.bench import Bench, events_of
from everwhen.testing._async.concurrency import Beside, together
from everwhen.testing.checks import equal, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import notes
from everwhen.vocabulary.query import Query


@promise(Guarantee.ORDER, "joint_commits")
async def positions_rise_and_are_contiguous_within_a_commit(bench: Bench) -> None:
    store = await bench.store()
    for size in (1, 3, 1_001, 2):
        await store.commit(Commit((Write("a", notes(size)), Write("b", notes(1)))))
    recorded = await events_of(store)
    positions = [e.position for e in recorded]
    true(positions[0] > 0, "positions begin at 1 or later")
    true(sorted(set(positions)) == positions, "positions rise")
    by_commit: dict[object, list[int]] = {}
    for event in recorded:
        by_commit.setdefault(event.commit_id, []).append(event.position)
    for own in by_commit.values():
        equal(own, list(range(own[0], own[0] + len(own))), "a commit's positions are contiguous")
    if (await bench.capabilities()).dense_positions:
        equal(positions, list(range(1, len(positions) + 1)), "dense positions are 1, 2, 3 …")


@promise(Guarantee.ORDER)
async def the_head_is_the_last_event(bench: Bench) -> None:
    store = await bench.store()
    head = await store.head()
    equal((head.position, head.recorded_at), (0, None), "an empty store's head")
    receipt = await store.append("a", notes(3))
    head = await store.head()
    equal(
        (head.position, head.recorded_at),
        (receipt.position, receipt.recorded_at),
        "the head is where the last commit ended",
    )


@promise(Guarantee.ORDER)
async def a_reader_who_follows_the_head_misses_nothing(bench: Bench) -> None:
    store = await bench.store()
    writers, rounds = 4, 12

    async def write() -> None:
        for number in range(rounds):
            await store.append("s", notes(1 + number % 3))

    async def follow() -> list[int]:
        seen: list[int] = []
        total = writers * sum(1 + number % 3 for number in range(rounds))
        while len(seen) < total:
            after = seen[-1] if seen else 0
            seen += [e.position for e in await events_of(store, Query().after(after))]
        return seen

    following = Beside(follow)
    await together(*[write] * writers)
    seen = await following.result()
    equal(seen, [e.position for e in await events_of(store)], "each event once, none skipped")


@promise(Guarantee.ORDER, "joint_commits")
async def commits_of_many_writers_do_not_mix(bench: Bench) -> None:
    store = await bench.store()

    async def write() -> None:
        for _ in range(6):
            await store.commit(Commit((Write("a", notes(2)), Write("b", notes(2)))))

    await together(*[write] * 5)
    recorded = await events_of(store)
    equal(len(recorded), 120, "all commits are there")
    for start in range(0, 120, 4):
        own = recorded[start : start + 4]
        equal(len({e.commit_id for e in own}), 1, "the events of one commit stand together")
        equal([e.stream for e in own], ["a", "a", "b", "b"], "in the order given")
    for stream in ("a", "b"):
        equal(
            [e.version for e in recorded if e.stream == stream],
            list(range(1, 61)),
            "versions rise with positions, without holes",
        )


@promise(Guarantee.ORDER, "shared_by_processes")
async def processes_take_turns_on_one_line_of_positions(bench: Bench) -> None:
    stores = [await bench.store()]
    stores += [await bench.store(backend=await bench.another_backend()) for _ in range(2)]
    for number in range(12):
        await stores[number % 3].append(f"s-{number % 2}", notes(1 + number % 2))
    views = [await events_of(store) for store in stores]
    equal(views[1], views[0], "all see the same")
    equal(views[2], views[0], "all see the same")
    positions = [e.position for e in views[0]]
    equal(len(set(positions)), 18, "no position is given twice")
    true(sorted(positions) == positions, "in order")
    equal([await s.version("s-0") for s in stores], [6, 6, 6], "also of the versions")
