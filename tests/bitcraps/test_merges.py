"""Two nights that went apart and are merged: whatever is let through, the money adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bitcraps.casino import Casino
from tests.bitcraps.test_random_tables import any_bet, anything_else

from bitcraps.casino import decisions
from bitcraps.commands import CloseBetting
from bitcraps.dice import commitment
from bitcraps.events import EVENTS
from bitcraps.inspection import Findings, inspect_store
from bitcraps.invariants import invariants
from everwhen import Refusal, Store, aio, open_store
from everwhen.errors import MergeError
from everwhen.merging import Merging
from everwhen.privacy import PLAINTEXT

STRATEGIES = ["fail", "ours", "theirs", "redecide"]


def inspected(path: str) -> Findings:
    async def inspect() -> Findings:
        async with aio.open_store(path, events=EVENTS, vault=PLAINTEXT, read_only=True) as store:
            return await inspect_store(store)

    return asyncio.run(inspect())


class Sitting:
    """Players at the one table of a casino, whose events go to a store."""

    def __init__(self, store: Store, casino: Casino) -> None:
        from everwhen import CommandBus

        self.casino = casino
        self.bus = CommandBus(store, decisions)

    def send(self, command: Any) -> None:
        try:
            self.bus.send(command)
        except Refusal:
            return
        self.casino.send(command)

    def play(self, random: Random, moves: int) -> None:
        for _ in range(moves):
            if random.random() < 0.15 and not self.casino.over:
                self.send(CloseBetting("g"))
                self._roll()
            make: Callable[..., Any] = any_bet if random.random() < 0.7 else anything_else
            self.send(make(self.casino, random))

    def _roll(self) -> None:
        from bitcraps.commands import RollDice

        casino, number = self.casino, self.casino.game.rolls + 1
        seed, following = casino.house.seed("g", number), casino.house.seed("g", number + 1)
        self.send(RollDice("g", casino.game.shooter, seed.hex(), commitment(following)))


@pytest.mark.slow
@settings(max_examples=40)
@given(
    secret=st.binary(min_size=32, max_size=32),
    random=st.randoms(use_true_random=True),
    strategy=st.sampled_from(STRATEGIES),
    moves=st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)),
)
def test_the_money_adds_up_after_any_merge(
    tmp_path_factory: pytest.TempPathFactory,
    secret: bytes,
    random: Random,
    strategy: Any,
    moves: tuple[int, int, int],
) -> None:
    path = str(tmp_path_factory.mktemp("night") / "casino.db")
    before = Casino(secret, 3)
    with open_store(path, events=EVENTS, vault=PLAINTEXT, durable=False) as store:
        for event in before.events:
            named = getattr(event, "game", None)
            name = f"account-{event.player}" if named is None else f"game-{named}"  # type: ignore[attr-defined]
            store.append(name, [event])
        Sitting(store, before).play(random, moves[0])
        twin = Casino(secret, 3)
        for event in before.events[len(twin.events) :]:
            twin._record(event)
        with store.create_branch("trial") as trial:
            Sitting(trial, twin).play(random, moves[1])
            Sitting(store, before).play(random, moves[2])
            head = store.head()
            merging = Merging(store, decisions, invariants=invariants)
            plan = merging.plan(trial, strategy=strategy)
            assert store.head() == head
            try:
                receipt = merging.merge(trial, strategy=strategy)
            except MergeError:
                assert plan.unsettled
                assert store.head() == head
            else:
                assert not plan.unsettled
                assert (receipt is None) == (not plan.writes)
        assert store.check() == []
    found = inspected(path)
    assert found.wrong == ()
    if strategy != "theirs":
        assert found.all_is_well
