"""Records are sorted in files where there are too many for the memory, and come out the same."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from everwhen.exchange import sorting
from everwhen.exchange.records import UNTIMED, ForeignEvent
from everwhen.exchange.sorting import Sorter


def records(count: int, size: int = 2) -> list[ForeignEvent]:
    dice = random.Random(count)
    times = [UNTIMED, *range(5)]
    return [
        ForeignEvent(dice.choice(times), n, n + 1, f"s-{n % 7}", "Read", b"1" * size, ("ü",))
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 160, 161, 175, 1_000, 3_333])
def test_many_files_are_merged_in_the_order_of_time_and_place(count: int) -> None:
    """Ten records a file, and sixteen files at most, which are then merged into one."""
    given = records(count)
    with closing(Sorter(run_records=10)) as sorter:
        for record in given:
            sorter.add(record)
            assert len(sorter._runs) <= sorting._MAX_RUNS
            assert len(sorter._records) < 10
        assert list(sorter.sorted()) == sorted(given, key=lambda r: (r.time, r.ordinal))
        assert sorter.count == count
        assert sorter.earliest == min((r.time for r in given if r.time != UNTIMED), default=None)


def test_few_large_records_go_to_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_RUN_BYTES", 10_000)
    monkeypatch.setattr(sorting, "_FRAME_BYTES", 2_500)
    given = records(100, size=1_000)
    with closing(Sorter()) as sorter:
        for record in given:
            sorter.add(record)
        assert len(sorter._runs) == 9
        assert list(sorter.sorted()) == sorted(given, key=lambda r: (r.time, r.ordinal))
