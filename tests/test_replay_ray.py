"""Replaying on a Ray cluster: one that is started here, where the library is installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests import replayed_elsewhere as elsewhere
from tests.patience import PATIENCE_SECONDS

from everwhen import Query
from everwhen.errors import DeclarationError, UnsupportedError
from everwhen.store import Ray

_IS_THERE = find_spec("ray") is not None


@pytest.mark.skipif(_IS_THERE, reason="the library ray is installed")
def test_without_the_library_it_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"pip install 'everwhen\[ray\]'"):
        Ray()


def test_a_number_of_workers_that_can_not_be() -> None:
    with pytest.raises(DeclarationError, match="give 1 or more"):
        Ray(workers=0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    if not _IS_THERE:
        pytest.skip("the library ray isn't installed: pip install 'everwhen[ray]'")
    with Ray(workers=2) as cluster:
        yield cluster


# What a cluster leaves to the garbage collector is its own affair.
_ON_A_CLUSTER = pytest.mark.filterwarnings("ignore::ResourceWarning", "default::FutureWarning")


@pytest.mark.slow
@_ON_A_CLUSTER
@pytest.mark.parametrize("kind", elsewhere.KINDS)
def test_a_cluster_gives_the_same_states(cluster: Ray, tmp_path: Path, kind: str) -> None:
    with elsewhere.opened(kind, tmp_path) as store:
        fold = elsewhere.account
        assert store.replay(fold, workers=cluster) == store.fold(fold)
        alone = store.replay(elsewhere.steps, by="stream", workers=1)
        assert store.replay(elsewhere.steps, by="stream", workers=cluster) == alone


@pytest.mark.slow
@_ON_A_CLUSTER
def test_what_a_fold_raises_comes_back_from_a_cluster(cluster: Ray, tmp_path: Path) -> None:
    with elsewhere.opened("rows", tmp_path) as store:
        store.append("a-1", [elsewhere.Paid("x", 2_000_000)])
        position = store.head().position
        with pytest.raises(ValueError, match="that is too much") as raised:
            store.replay(elsewhere.account, workers=cluster)
        assert f"at position {position}, a-1@" in raised.value.__notes__[0]
        good = Query().up_to(position - 1)
        assert store.replay(elsewhere.account, good, workers=cluster)


@pytest.mark.slow
@pytest.mark.skipif(not _IS_THERE, reason="the library ray isn't installed")
def test_a_fold_of_the_script_can_not_go(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from everwhen import Event, Fold, open_store\n"
        "from everwhen.errors import DeclarationError\n"
        "from everwhen.store import Ray\n\n"
        "class Paid(Event):\n    amount: int\n\n"
        "total = Fold('total', int)\n"
        "total.on(Paid)(lambda state, event: state + event.amount)\n"
        "total.merge(lambda earlier, later: earlier + later)\n\n"
        "with Ray(workers=2) as cluster, open_store('s.db', events=[Paid]) as store:\n"
        "    store.append('a', [Paid(1), Paid(2)])\n"
        "    try:\n        store.replay(total, workers=cluster)\n"
        "    except DeclarationError as error:\n        print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert "of the program's own script, which isn't there" in told.stdout
