"""Branches against plain stores: each does what a store does that the same was written to.

A branch's model is a store in memory that the shared commits are written to again, and a plain
list of what it must show. Whatever is done to the one is done to the other, with the same outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.expected_merges import FROM, expected_merge, merge_commit
from tests.places import EVERYWHERE, Places
from tests.test_model import EVENTS, STREAMS, WRITES, Closed, Opened, outcome, queries, selectors

from everwhen import Commit, Condition, EverwhenError, Query, Store, Write, open_store
from everwhen.errors import BranchError, MergeError
from everwhen.merging import Merging
from everwhen.store import Subscription
from everwhen.testing import ManualClock
from everwhen.vocabulary import Checkpoint, Receipt, Snapshot

TYPES = [Opened, Closed]


@dataclass
class World:
    """A store or branch, its model, and the commits and events that it shows."""

    name: str
    store: Store
    model: Store
    follower: Subscription
    parent: World | None = None
    fork: int = 0
    commits: list[tuple[Commit, Receipt]] = field(default_factory=list)
    events: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        info = self.store.branch_info
        return "main" if info is None else info.id

    def lineage(self, until: int = 1 << 60) -> list[tuple[str, int]]:
        """The worlds that it consists of, each with the last position that it has of it."""
        above = self.parent.lineage(min(until, self.fork)) if self.parent is not None else []
        return [*above, (self.name, until)]

    def shared_with(self, other: World) -> int:
        pairs = zip(self.lineage(), other.lineage(), strict=False)
        return max(min(mine, theirs) for (name, mine), (same, theirs) in pairs if name == same)

    def written(self, commit: Commit, receipt: Receipt) -> None:
        self.commits.append((commit, receipt))
        self.events += [(write.stream, event) for write in commit.writes for event in write.events]


class WorldsMachine(RuleBasedStateMachine):
    """A store and some branches, each beside its model."""

    places: Places
    examples: ClassVar = {"memory": 25, "sqlite": 25, "postgresql": 4}

    @initialize(starts=st.lists(st.lists(WRITES, max_size=6), min_size=1, max_size=3))
    def begin(self, starts: list[list[list[Write]]]) -> None:
        """Some nested branches to start with, and something on each."""
        self.stack = ExitStack()
        location = self.stack.enter_context(self.places.fresh())
        self.clock = ManualClock()
        self.ids = 0
        self.known: list[Commit] = []
        root = open_store(location, events=TYPES, clock=self.clock, durable=False)
        self.worlds = [World("main", root, self.model(), root.subscribe())]
        for level, start in enumerate(starts):
            if level:
                self.fork(level - 1, back=0, by_time=False)
            for writes in start:
                self.append(level, [Write(w.stream, w.events) for w in writes])

    def model(self) -> Store:
        return open_store("memory:", events=TYPES, clock=self.clock)

    def teardown(self) -> None:
        if hasattr(self, "worlds"):
            for world in reversed(self.worlds):
                world.store.close()
                world.model.close()
        if hasattr(self, "stack"):
            self.stack.close()

    def world(self, which: int) -> World:
        return self.worlds[which % len(self.worlds)]

    def both(self, which: int, call: Callable[[Store], Any]) -> Any:
        world = self.world(which)
        outcomes = [outcome(call, store) for store in (world.model, world.store)]
        assert outcomes[0] == outcomes[1], world.name
        return outcomes[0]

    def commit(self, which: int, commit: Commit) -> None:
        receipt = self.both(which, lambda store: store.commit(commit))
        if isinstance(receipt, Receipt) and not receipt.repeated:
            self.world(which).written(commit, receipt)

    def with_id(
        self, writes: list[Write], condition: Condition | None, at: datetime | None = None
    ) -> Commit:
        self.ids += 1
        commit = Commit(writes, condition, UUID(int=self.ids), recorded_at=at)
        self.known.append(commit)
        return commit

    @rule(which=st.integers(0, 5), back=st.integers(0, 6), by_time=st.booleans())
    def fork(self, which: int, back: int, by_time: bool) -> None:
        if len(self.worlds) > 5:
            return
        parent = self.world(which)
        shared = parent.commits[: max(0, len(parent.commits) - back)]
        at: int | datetime | None = shared[-1][1].position if shared else 0
        if by_time and shared:
            at = shared[-1][1].recorded_at
            shared = [(c, r) for c, r in parent.commits if r.recorded_at <= at]
        elif not back:
            at = None
        name = f"branch {len(self.worlds)}"
        branch = parent.store.create_branch(name, at)
        fork = shared[-1][1].position if shared else 0
        world = World(name, branch, self.model(), branch.subscribe(), parent, fork)
        for commit, receipt in shared:
            plain = Commit(
                commit.writes, None, commit.id, commit.metadata, recorded_at=receipt.recorded_at
            )
            guess = [Write(w.stream, w.events) for w in plain.writes]
            again = world.model.commit(msgspec.structs.replace(plain, writes=guess))
            assert again == receipt
            world.written(commit, receipt)
        self.worlds.append(world)

    @rule(which=st.integers(0, 5), writes=WRITES)
    def append(self, which: int, writes: list[Write]) -> None:
        self.commit(which, self.with_id(writes, None))

    @rule(
        which=st.integers(0, 5),
        other=st.integers(0, 5),
        strategy=st.sampled_from(["fail", "ours", "theirs", "redecide"]),
    )
    def merge(self, which: int, other: int, strategy: Any) -> None:
        """Any world into any other: parents, children, cousins, and what was merged before."""
        target, source = self.world(which), self.world(other)
        merging = Merging(target.store)
        if target is source:
            with pytest.raises(BranchError, match="it is the same branch"):
                merging.plan(source.store)
            return
        base, up_to = target.shared_with(source), source.store.head().position
        assert target.store.shared_with(source.store) == base
        wanted = expected_merge(target.commits, source.commits, base, source.id, strategy)
        plan = merging.plan(source.store, strategy=strategy)
        assert [(item.outcome, item.is_settled) for item in plan.items] == wanted.outcomes
        record = {"branch": source.name, "id": source.id, "up_to": up_to, "commits": 0}
        if not all(is_settled for _, is_settled in wanted.outcomes):
            with pytest.raises(MergeError):
                merging.merge(source.store, strategy=strategy)
            return
        receipt = merging.merge(source.store, strategy=strategy)
        done = [r for c, r in target.commits if c.metadata and c.metadata.extras == {FROM: record}]
        if receipt is None:
            assert not wanted.writes
        elif receipt.repeated:
            assert receipt.commit_id in {one.commit_id for one in done}
        else:
            assert wanted.writes
            commit = merge_commit(wanted, target.commits, receipt, record)
            assert target.model.commit(commit) == receipt
            assert list(target.model.commit_events(receipt.commit_id)) == list(
                target.store.commit_events(receipt.commit_id)
            )
            target.written(commit, receipt)

    @rule(seconds=st.integers(-20, 20))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 5))
    def follow(self, which: int) -> None:
        world = self.world(which)
        head = world.model.head().position
        position = world.follower.position
        for event in world.model.read(Query().after(position)):
            assert next(world.follower) == event
        assert world.follower.position == head

    @invariant()
    def everything_is_as_it_was_written(self) -> None:
        for world in getattr(self, "worlds", []):
            assert world.store.head() == world.model.head()
            assert world.store.head().position == len(world.events)


class BranchesMachine(WorldsMachine):
    """All that can be done to them."""

    @rule(which=st.integers(0, 5), back=st.integers(1, 12))
    def fork_anywhere(self, which: int, back: int) -> None:
        """Inside a commit it is refused, with the two places that will do."""
        world = self.world(which)
        position = world.store.head().position - back
        ends = [0, *(receipt.position for _, receipt in world.commits)]
        if position > 0 and position not in ends:
            before = max(end for end in ends if end < position)
            after = min(end for end in ends if end > position)
            with pytest.raises(EverwhenError, match=f"begin at {after} with it, or at {before} "):
                world.store.create_branch("torn", position)

    @rule(which=st.integers(0, 5), stream=st.sampled_from(STREAMS), event=EVENTS)
    def append_with_a_fresh_id(self, which: int, stream: str, event: Any) -> None:
        """Under the version that is there; the model is told which id it got."""
        world = self.world(which)
        expected = world.model.version(stream)
        receipt = world.store.append(stream, [event], expected=expected)
        commit = Commit([Write(stream, [event], expected)], None, receipt.commit_id)
        assert world.model.commit(commit) == receipt
        world.written(commit, receipt)

    @rule(which=st.integers(0, 5), writes=WRITES, query=selectors(), back=st.integers(0, 30))
    def append_under_a_condition(
        self, which: int, writes: list[Write], query: Query, back: int
    ) -> None:
        after = max(0, self.world(which).model.head().position - back)
        self.commit(which, self.with_id(writes, Condition(query, after)))

    @rule(which=st.integers(0, 5), writes=WRITES, seconds=st.integers(-20, 20))
    def append_at_its_own_time(self, which: int, writes: list[Write], seconds: int) -> None:
        moment = self.clock() + timedelta(seconds=seconds)
        world = self.world(which)
        commit = self.with_id(writes, None, moment)
        outcomes = [outcome(lambda s: s.commit(commit), s) for s in (world.model, world.store)]
        if isinstance(outcomes[0], Receipt):
            assert outcomes[0] == outcomes[1]
            if not outcomes[0].repeated:
                world.written(commit, outcomes[0])
        else:
            assert outcomes[0][0] == outcomes[1][0]

    @rule(which=st.integers(0, 5), batch=st.lists(WRITES, min_size=1, max_size=4))
    def append_a_batch(self, which: int, batch: list[list[Write]]) -> None:
        commits = [self.with_id(writes, None) for writes in batch]
        given = [*commits, commits[0]]
        found = self.both(which, lambda store: store.commit_batch(given))
        if isinstance(found, list):
            for commit, receipt in zip(given, found, strict=True):
                if isinstance(receipt, Receipt) and not receipt.repeated:
                    self.world(which).written(commit, receipt)

    @rule(which=st.integers(0, 5), pick=st.integers(0, 1_000), writes=WRITES, same=st.booleans())
    def repeat(self, which: int, pick: int, writes: list[Write], same: bool) -> None:
        """A commit that some other world may know, before or after the fork."""
        if self.known:
            known = self.known[-1 - pick % len(self.known)]
            commit = Commit(
                known.writes if same else writes, known.condition if same else None, known.id
            )
            self.commit(which, commit)

    @rule(which=st.integers(0, 5), count=st.integers(100, 2_100), stream=st.sampled_from(STREAMS))
    def append_many(self, which: int, count: int, stream: str) -> None:
        self.commit(
            which, self.with_id([Write(stream, [Opened(n % 3) for n in range(count)])], None)
        )

    @rule(which=st.integers(0, 5), query=queries())
    def read(self, which: int, query: Query) -> None:
        self.both(which, lambda store: list(store.read(query)))

    @rule(which=st.integers(0, 5), query=queries(), stream=st.sampled_from(STREAMS))
    def read_a_stream(self, which: int, query: Query, stream: str) -> None:
        asked = msgspec.structs.replace(query, selectors=Query().stream(stream).selectors)
        self.both(which, lambda store: list(store.read(asked)))

    @rule(which=st.integers(0, 5), query=queries(), back=st.integers(0, 20))
    def read_about_the_newest(self, which: int, query: Query, back: int) -> None:
        after = max(0, self.world(which).model.head().position - back)
        near = msgspec.structs.replace(query, after_position=after, last_position=None)
        self.both(which, lambda store: list(store.read(near)))
        before = msgspec.structs.replace(query, after_position=0, last_position=after)
        self.both(which, lambda store: list(store.read(before)))

    @rule(which=st.integers(0, 5), query=queries())
    def read_in_a_transaction(self, which: int, query: Query) -> None:
        """What functions in transactions and looks see, page by page."""
        world = self.world(which)
        asked = world.store.kernel.resolved(query)
        wanted = [event.position for event in world.model.read(Query().after(asked.after_position))]

        def positions(view: Any) -> list[int]:
            found: list[int] = []
            query = Query().after(asked.after_position)
            while True:
                page = view.read(query, 7)
                for stored in page.slices:
                    first = max(stored.position - stored.count, asked.after_position)
                    found += range(first + 1, stored.position + 1)
                if page.end:
                    return found
                query = query.after(page.cursor)

        assert world.store.kernel.backend.view(positions) == wanted
        if world.name != "main" or wanted:
            assert world.store.kernel.backend.transact(positions) == wanted

    @rule(which=st.integers(0, 5), query=queries(), stream=st.none() | st.sampled_from(STREAMS))
    def pages_end_where_the_query_does(self, which: int, query: Query, stream: str | None) -> None:
        """Those who follow go on from there; they must not stand still."""
        world = self.world(which)
        if stream is not None:
            query = msgspec.structs.replace(query, selectors=Query().stream(stream).selectors)
        query = msgspec.structs.replace(world.store.kernel.resolved(query), reverse=False)
        head, after = world.model.head().position, query.after_position
        bound = head if query.last_position is None else min(head, query.last_position)
        while True:
            page = world.store.kernel.backend.read(query.after(after), 50)
            if page.end:
                break
            assert page.cursor > after
            after = page.cursor
        assert max(bound, query.after_position) <= page.cursor <= max(head, query.after_position)

    @rule(which=st.integers(0, 5), seconds=st.integers(-30, 60))
    def find_a_moment(self, which: int, seconds: int) -> None:
        moment = self.clock() + timedelta(seconds=seconds)
        self.both(which, lambda store: store.position_at(moment))

    @rule(which=st.integers(0, 5), category=st.none() | st.sampled_from(["a", "b", "a-1"]))
    def list_streams(self, which: int, category: str | None) -> None:
        self.both(which, lambda store: list(store.streams(category)))
        self.both(which, lambda store: [store.stream(name) for name in (*STREAMS, "none")])

    @rule(which=st.integers(0, 5), pick=st.integers(0, 1_000))
    def find_a_commit(self, which: int, pick: int) -> None:
        if self.known:
            known = self.known[-1 - pick % len(self.known)]
            assert known.id is not None
            commit_id = known.id
            self.both(which, lambda s: (s.receipt(commit_id), s.commit_events(commit_id)))

    @rule(which=st.integers(0, 5), place=st.integers(0, 5))
    def keep_a_checkpoint(self, which: int, place: int) -> None:
        def keep(store: Store) -> None:
            with store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint(f"c{place % 2}", place))

        self.both(which, keep)
        for other in range(len(self.worlds)):
            self.both(other, lambda store: [c for c in store.checkpoints() if c.name[0] == "c"])

    @rule(which=st.integers(0, 5))
    def reopen(self, which: int) -> None:
        world = self.world(which)
        if world.name != "main":
            position = world.follower.position
            world.store.close()
            world.store = self.worlds[0].store.branch(world.name)
            world.follower = world.store.subscribe(Query().after(position))

    @rule()
    def list_branches(self) -> None:
        found = {info.name: info for info in self.worlds[0].store.branches()}
        for world in self.worlds[1:]:
            assert found.pop(world.name).head == world.model.head().position
        assert not found


class MergesMachine(WorldsMachine):
    """Little but facts, which contradict one another, and merges."""

    examples: ClassVar = {"memory": 60, "sqlite": 60, "postgresql": 6}

    @rule(which=st.integers(0, 5), stream=st.sampled_from(STREAMS[:2]), number=st.integers(0, 2))
    def tell(self, which: int, stream: str, number: int) -> None:
        self.commit(which, self.with_id([Write(stream, [Opened(number)])], None))

    @rule(which=st.integers(0, 5))
    def compare(self, which: int) -> None:
        self.both(which, lambda store: list(store.read()))
        self.both(which, lambda store: [store.stream(name) for name in STREAMS])


@pytest.mark.slow
@pytest.mark.parametrize("places", EVERYWHERE, indirect=True)
@pytest.mark.parametrize("base", [BranchesMachine, MergesMachine], ids=["branches", "merges"])
def test_branches_are_what_they_model(base: type[WorldsMachine], places: Places) -> None:
    class Machine(base):  # type: ignore[misc, valid-type]
        pass

    Machine.places = places
    Machine.TestCase.settings = settings(
        max_examples=base.examples[places.kind],
        stateful_step_count=40,
        deadline=None,
        print_blob=True,
    )
    Machine.TestCase("runTest").debug()


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["save", "save", "delete", "clear"]),
        st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True),
    ),
    max_size=20,
)


@dataclass
class Level:
    """A branch, where it forks off the one before, and what its snapshots should be."""

    store: Store
    fork: int
    own: dict[int, bytes | None] = field(default_factory=dict)
    without_others: bool = False

    def change(self, what: str, positions: list[int], state: bytes) -> None:
        with self.store.transaction() as transaction:
            if what == "save":
                for position in positions:
                    transaction.save_snapshot(Snapshot("s", position, "fold", 1, state))
                    self.own[position] = state
            elif what == "delete":
                transaction.delete_snapshots("s", positions)
                self.own |= dict.fromkeys(positions)
            else:
                transaction.delete_snapshots("s")
                self.own = {}
                self.without_others = True

    def shown(self, above: list[Level]) -> dict[int, bytes | None]:
        """Of those above, the first that it shows something of counts."""
        above = list(above)
        while len(above) > 1 and self.fork <= above[-1].fork:
            above.pop()
        theirs = above.pop().shown(above) if above and not self.without_others else {}
        return {p: s for p, s in theirs.items() if p <= self.fork} | self.own


def found(store: Store, up_to: int | None, limit: int) -> list[tuple[int, bytes]]:
    return [(s.position, s.state) for s in store.snapshots("s", up_to=up_to, limit=limit)]


@given(CHANGES, st.tuples(*[st.sampled_from([0, 3, 6, 9])] * 3))
def test_snapshots_are_the_branches_own_and_the_shared_ones(
    changes: list[tuple[int, str, list[int]]], forks: tuple[int, ...]
) -> None:
    with open_store("memory:", events=TYPES) as root:
        levels = [Level(root, 0)]
        for number, fork in enumerate((*forks, 0)):
            store = levels[-1].store
            for _ in range(3):
                store.append("a", [Opened(n) for n in range(3)])
            at = min(fork, store.head().position)
            levels.append(Level(store.create_branch(f"b{number}", at), at))
        for number, (which, what, positions) in enumerate(changes):
            levels[which].change(what, positions, b"%d" % number)
        for index, level in enumerate(levels):
            shown = level.shown(levels[:index])
            wanted = [(p, s) for p, s in sorted(shown.items(), reverse=True) if s]
            for limit in (1, 2, 20):
                assert found(level.store, None, limit) == wanted[:limit]
            assert found(level.store, 5, 2) == [(p, s) for p, s in wanted if p <= 5][:2]
