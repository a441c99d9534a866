"""A store replays itself, in this process or by workers, and says the same either way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import replayed_elsewhere as elsewhere

from everwhen.aio import Fold, NewEvent, Query, Store, open_store
from everwhen.errors import DeclarationError
from everwhen.testing import ManualClock


async def filled(path: Path | str) -> Store:
    """Payments to three orders, every third of which occurred long before."""
    clock = ManualClock(elsewhere.START)
    store = await open_store(path, events=[elsewhere.Paid], clock=clock)
    for number in range(30):
        clock.advance(3600)
        early = clock() - timedelta(days=9) if number % 3 == 0 else None
        paid = elsewhere.Paid("x", number)
        await store.append(f"order-{number % 4}", [NewEvent(event=paid, occurred_at=early)])
        await store.append("till", [elsewhere.Paid("y", 1)])
    return store


@pytest.mark.parametrize("place", ["memory:", "a file"])
@pytest.mark.parametrize("workers", [1, 3])
async def test_states_of_streams_and_categories(tmp_path: Path, place: str, workers: int) -> None:
    path = tmp_path / "s.db" if place == "a file" else place
    async with await filled(path) as store:
        runner = elsewhere.Here(workers)
        for fold in elsewhere.FOLDS:
            for query in (Query(), Query().as_of(elsewhere.START), Query().backwards().limit(7)):
                streams = await store.replay(fold, query, by="stream", workers=runner)
                assert list(streams) == sorted(streams)
                for name, state in streams.items():
                    if query.max_events is None:
                        alone: Any = await store.fold(fold, query.stream(name))
                        assert state == alone
                categories = await store.replay(fold, query, by="category", workers=runner)
                assert set(categories) == {name.split("-")[0] for name in streams}


@pytest.mark.parametrize("place", ["memory:", "a file"])
async def test_one_state_of_all(tmp_path: Path, place: str) -> None:
    path = tmp_path / "s.db" if place == "a file" else place
    async with await filled(path) as store:
        alone = await store.fold(elsewhere.account)
        assert await store.replay(elsewhere.account) == alone
        assert await store.replay(elsewhere.account, workers=elsewhere.Here(2)) == alone
        assert await store.replay(elsewhere.account, "till", at=20, workers=1) == elsewhere.Account(
            10
        )
        branch = await store.create_branch("try", 40)
        await branch.append("till", [elsewhere.Paid("z", 1_000)])
        runner = elsewhere.Here(2)
        found = await branch.replay(elsewhere.account, "till", workers=runner)
        assert found == elsewhere.Account(1_020)
        assert (runner.tasks > 0) is (place == "a file")


async def test_history_is_that_of_the_call(tmp_path: Path) -> None:
    class Slow(elsewhere.Here):
        """Somebody writes before the workers begin."""

        def started(self, tasks: Any) -> Any:
            elsewhere.append_one(tmp_path / "s.db")
            return super().started(tasks)

    async with await filled(tmp_path / "s.db") as store:
        alone = await store.fold(elsewhere.account)
        assert await store.replay(elsewhere.account, workers=Slow(3)) == alone
        assert await store.replay(elsewhere.steps, by="stream", workers=Slow(3)) != {}
        later = await store.fold(elsewhere.account)
        assert later.paid == alone.paid + 2


async def test_a_fold_that_can_not_be_shared_says_what_to_add(tmp_path: Path) -> None:
    fold: Fold[int] = elsewhere.steps
    async with await filled(tmp_path / "s.db") as store:
        with pytest.raises(DeclarationError, match=r"2 workers can't share it: .*@fold\.merge, or"):
            await store.replay(fold, workers=2)
        assert await store.replay(fold) == await store.fold(fold)
