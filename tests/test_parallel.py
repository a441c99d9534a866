"""Searches in several processes find what a search in this one finds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests import searched_elsewhere as elsewhere

from everwhen import TimeMachine, UnknownEvent, aio, open_store
from everwhen.errors import ExpressionError, FoldError, InvalidQueryError
from everwhen.expressions import Expression
from everwhen.travel import Processes, StateAt

pytestmark = pytest.mark.slow

EVENTS = 12_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere") / "counted.db"
    with open_store(path, events=[elsewhere.Counted]) as store:
        for number in range(EVENTS // 1_000):
            store.append(f"count-{number % 3}", [elsewhere.Counted(1) for _ in range(1_000)])
    return path


@pytest.fixture
def machine(path: Path) -> Iterator[TimeMachine[int]]:
    with open_store(path, events=[elsewhere.Counted]) as store:
        yield TimeMachine(store, elsewhere.counter)


@pytest.mark.parametrize(
    ("condition", "way"),
    [
        (elsewhere.is_seven, {}),
        (elsewhere.is_seven, {"last": True}),
        (elsewhere.is_seven, {"start": 5_008, "end": 11_990}),
        (elsewhere.is_small, {"last": True}),
        (elsewhere.is_huge, {}),
        (elsewhere.is_huge, {"last": True}),
        (elsewhere.is_anything, {"start": 400}),
        (elsewhere.is_anything, {"last": True, "end": 8_000}),
        (Expression("state == 9999").holds_for, {}),
    ],
)
def test_processes_find_the_same(
    machine: TimeMachine[int], path: Path, condition: Callable[[int], Any], way: dict[str, Any]
) -> None:
    alone = machine.find_when(condition, **way, tracked=False)
    processes = Processes(partial(elsewhere.opened, path), 3)
    assert machine.find_when(condition, **way, processes=processes) == alone


@pytest.mark.parametrize(
    ("condition", "way"),
    [
        (elsewhere.is_seven, {}),
        (elsewhere.is_seven, {"start": 5_007, "end": 11_990}),
        (elsewhere.is_small, {}),
        (elsewhere.is_huge, {"start": 3}),
        (Expression("state > 3990 && state < 4010").holds_for, {}),
    ],
)
def test_processes_find_the_same_turns_and_moments(
    machine: TimeMachine[int], path: Path, condition: Callable[[int], Any], way: dict[str, Any]
) -> None:
    processes = Processes(partial(elsewhere.opened, path), 2)
    turns = list(machine.transitions(condition, **way, tracked=False))
    assert list(machine.transitions(condition, **way, processes=processes)) == turns
    if condition is not elsewhere.is_small:
        every = list(machine.find_all(condition, **way, tracked=False))
        assert list(machine.find_all(condition, **way, processes=processes)) == every


def test_turns_can_be_left_and_what_is_raised_comes_back(
    machine: TimeMachine[int], path: Path
) -> None:
    processes = Processes(partial(elsewhere.opened, path), 2)
    turns: Any = machine.transitions(elsewhere.is_small, processes=processes)
    assert next(turns).holds
    turns.close()
    wrong = Expression("state > 'x'").holds_for
    with pytest.raises(ExpressionError, match="no order"):
        list(machine.transitions(wrong, processes=processes))


def test_they_tell_how_far_they_are_and_can_be_left(machine: TimeMachine[int], path: Path) -> None:
    processes = Processes(partial(elsewhere.opened, path), 2)
    told: list[tuple[int, int]] = []
    machine.find_when(
        elsewhere.is_huge, processes=processes, progress=lambda *at: told.append((at[0], at[1]))
    )
    assert told == sorted(told)
    assert {last for _, last in told} == {EVENTS}

    def leave(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.find_when(elsewhere.is_huge, processes=processes, progress=leave)


def test_an_event_loop_goes_on_meanwhile(path: Path) -> None:
    async def searched() -> tuple[StateAt[int] | None, int]:
        async with aio.open_store(path, events=[elsewhere.Counted]) as store:
            machine = aio.TimeMachine(store, elsewhere.counter)
            processes = Processes(partial(elsewhere.opened, path), 2)
            search = asyncio.create_task(
                machine.find_when(elsewhere.is_seven, start=8_000, processes=processes)
            )
            turns = 0
            while not search.done():
                await asyncio.sleep(0.01)
                turns += 1
            return await search, turns

    found, turns = asyncio.run(searched())
    assert found is not None
    assert (found.position, found.state) == (10_007, 10_007)
    assert turns > 2


def test_what_can_not_be_searched_elsewhere(machine: TimeMachine[int], path: Path) -> None:
    processes = Processes(partial(elsewhere.opened, path), 2)
    with pytest.raises(InvalidQueryError, match="can't be sent to other processes"):
        machine.find_when(lambda state: state > 3, processes=processes)
    with pytest.raises(InvalidQueryError, match="needs no processes"):
        machine.find_when(elsewhere.is_huge, monotone=True, processes=processes)
    with pytest.raises(InvalidQueryError, match=r"is of other .* this one of counter"):
        machine.find_when(
            elsewhere.is_huge, processes=Processes(partial(elsewhere.another, path), 2)
        )
    with pytest.raises(InvalidQueryError, match="give 1 or more"):
        Processes(partial(elsewhere.opened, path), 0)


def test_what_a_fold_raises_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "raises.db"
    with open_store(path) as store:
        store.append("count-1", [UnknownEvent("Counted", {"by": 5_000})])
    with open_store(path, events=[elsewhere.Counted]) as store:
        machine = TimeMachine(store, elsewhere.counter)
        processes = Processes(partial(elsewhere.opened, path), 1)
        with pytest.raises((FoldError, ValueError), match="too much"):
            machine.find_when(elsewhere.is_huge, processes=processes)
