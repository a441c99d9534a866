# Generated from tests/_async/test_replay.py by tools/unasync.py: edit that, then run `make sync`.
"""A store replays itself, in this process or by workers, and says the same either way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import replayed_elsewhere as elsewhere

from everwhen import Fold, NewEvent, Query, Store, open_store
from everwhen.errors import DeclarationError
from everwhen.testing import ManualClock


def filled(path: Path | str) -> Store:
    """Payments to three orders, every third of which occurred long before."""
    clock = ManualClock(elsewhere.START)
    store = open_store(path, events=[elsewhere.Paid], clock=clock)
    for number in range(30):
        clock.advance(3600)
        early = clock() - timedelta(days=9) if number % 3 == 0 else None
        paid = elsewhere.Paid("x", number)
        store.append(f"order-{number % 4}", [NewEvent(event=paid, occurred_at=early)])
        store.append("till", [elsewhere.Paid("y", 1)])
    return store


@pytest.mark.parametrize("place", ["memory:", "a file"])
@pytest.mark.parametrize("workers", [1, 3])
def test_states_of_streams_and_categories(tmp_path: Path, place: str, workers: int) -> None:
    path = tmp_path / "s.db" if place == "a file" else place
    with filled(path) as store:
        runner = elsewhere.Here(workers)
        for fold in elsewhere.FOLDS:
            for query in (Query(), Query().as_of(elsewhere.START), Query().backwards().limit(7)):
                streams = store.replay(fold, query, by="stream", workers=runner)
                assert list(streams) == sorted(streams)
                for name, state in streams.items():
                    if query.max_events is None:
                        alone: Any = store.fold(fold, query.stream(name))
                        assert state == alone
                categories = store.replay(fold, query, by="category", workers=runner)
                assert set(categories) == {name.split("-")[0] for name in streams}


@pytest.mark.parametrize("place", ["memory:", "a file"])
def test_one_state_of_all(tmp_path: Path, place: str) -> None:
    path = tmp_path / "s.db" if place == "a file" else place
    with filled(path) as store:
        alone = store.fold(elsewhere.account)
        assert store.replay(elsewhere.account) == alone
        assert store.replay(elsewhere.account, workers=elsewhere.Here(2)) == alone
        assert store.replay(elsewhere.account, "till", at=20, workers=1) == elsewhere.Account(10)
        branch = store.create_branch("try", 40)
        branch.append("till", [elsewhere.Paid("z", 1_000)])
        runner = elsewhere.Here(2)
        found = branch.replay(elsewhere.account, "till", workers=runner)
        assert found == elsewhere.Account(1_020)
        assert (runner.tasks > 0) is (place == "a file")


def test_history_is_that_of_the_call(tmp_path: Path) -> None:
    class Slow(elsewhere.Here):
        """Somebody writes before the workers begin."""

        def started(self, tasks: Any) -> Any:
            elsewhere.append_one(tmp_path / "s.db")
            return super().started(tasks)

    with filled(tmp_path / "s.db") as store:
        alone = store.fold(elsewhere.account)
        assert store.replay(elsewhere.account, workers=Slow(3)) == alone
        assert store.replay(elsewhere.steps, by="stream", workers=Slow(3)) != {}
        later = store.fold(elsewhere.account)
        assert later.paid == alone.paid + 2


def test_a_fold_that_can_not_be_shared_says_what_to_add(tmp_path: Path) -> None:
    fold: Fold[int] = elsewhere.steps
    with filled(tmp_path / "s.db") as store:
        with pytest.raises(DeclarationError, match=r"2 workers can't share it: .*@fold\.merge, or"):
            store.replay(fold, workers=2)
        assert store.replay(fold) == store.fold(fold)
