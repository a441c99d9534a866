"""A merge that is killed is done or not done; repeated, it is done once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from everwhen import CommandBus, Decisions, Event, Fold, StateOf, open_store
from everwhen.merging import Merging

PROGRAM = """
import sys
from tests.faults.test_merges_cut_off import Counted, decisions
from everwhen import open_store
from everwhen.merging import Merging

with open_store(sys.argv[1], events=[Counted]) as store, store.branch("trial") as trial:
    print("ready", flush=True)
    Merging(store, decisions).merge(trial)
    print("done", flush=True)
"""


class Counted(Event):
    amount: int


class CountUp(msgspec.Struct, frozen=True):
    stream: str
    amount: int


total = Fold("total", lambda: 0)
total.on(Counted)(lambda state, event: state + event.amount)
decisions = Decisions()


@decisions.on(CountUp, StateOf(total, lambda command: command.stream))
def _count(command: CountUp, _: int) -> list[Event]:
    return [Counted(command.amount)]


@pytest.mark.parametrize("seed", range(8))
def test_a_merge_that_is_killed(tmp_path: Path, seed: int) -> None:
    path, rng = tmp_path / "a.db", random.Random(seed)
    with open_store(path, events=[Counted]) as store:
        store.append("count-0", [Counted(1)])
        with store.create_branch("trial") as trial:
            bus = CommandBus(trial, decisions)
            for number in range(120):
                bus.send(CountUp(f"count-{number % 7}", number))
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(rng.random() * 0.12)
            child.kill()
        once = 1 + sum(range(120))
        sums = [store.fold(total, f"count-{n}") for n in range(7)]
        assert sum(sums) in {1, once}
        with store.branch("trial") as trial:
            receipt = Merging(store, decisions).merge(trial)
            assert receipt is not None
            assert receipt.repeated == (sum(sums) == once)
        assert sum(store.fold(total, f"count-{n}") for n in range(7)) == once
        assert store.check() == []
