"""Replaying in processes of their own: the same states, whatever ends them, and none left over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests import replayed_elsewhere as elsewhere
from tests.patience import PATIENCE_SECONDS

from everwhen import Fold, Query, aio, open_store
from everwhen.errors import WorkerError

pytestmark = pytest.mark.slow

WAYS: Final[list[tuple[Fold[Any], Any]]] = [
    (elsewhere.account, None),
    (elsewhere.steps, "stream"),
]
_ROOT: Final = Path(__file__).parent.parent


@pytest.mark.parametrize("kind", elsewhere.KINDS)
def test_processes_give_the_same_states(tmp_path: Path, kind: str) -> None:
    with elsewhere.opened(kind, tmp_path) as store:
        for fold, by in WAYS:
            alone = store.replay(fold, workers=1, by=by)
            assert store.replay(fold, workers=2, by=by) == alone


def test_what_a_fold_raises_comes_back_from_a_process(tmp_path: Path) -> None:
    with elsewhere.opened("rows", tmp_path) as store:
        store.append("a-1", [elsewhere.Paid("x", 2_000_000)])
        position = store.head().position
        for fold, by in WAYS:
            with pytest.raises(ValueError, match="that is too much") as raised:
                store.replay(fold, workers=2, by=by)
            assert f"at position {position}, a-1@" in raised.value.__notes__[0]
            assert "in advance" in str(raised.value.__cause__)  # the worker's own traceback


def test_a_worker_that_is_killed_is_told(tmp_path: Path) -> None:
    with open_store(tmp_path / "killed.db", events=[elsewhere.Paid]) as store:
        store.append("a", [elsewhere.Paid("x", number) for number in range(100)])
        with pytest.raises(WorkerError, match="a worker process ended before its work was done"):
            store.replay(elsewhere.killed, workers=2)
        assert store.replay(elsewhere.killed, Query().up_to(70), workers=2) == sum(range(70))


def test_an_event_loop_goes_on_and_can_cancel(tmp_path: Path) -> None:
    async def replayed() -> None:
        async with aio.open_store(tmp_path / "loop.db", events=[elsewhere.Paid]) as store:
            await store.append("a", [elsewhere.Paid("x", 1) for _ in range(40)])
            assert await store.replay(elsewhere.account, workers=2) == elsewhere.Account(40)
            for _ in range(20):
                await store.append("a", [elsewhere.Paid("x", 1) for _ in range(1_000)])
            replay = asyncio.create_task(store.replay(elsewhere.endless, workers=2))
            done, _ = await asyncio.wait([replay], timeout=1)
            assert not done
            replay.cancel()
            with pytest.raises(asyncio.CancelledError):
                await replay

    asyncio.run(replayed())


_PROGRAM: Final = """
import multiprocessing, sys, threading, time
from everwhen import Event, Fold, open_store

class Paid(Event):
    by: str
    amount: int

total = Fold("total", int)

@total.on(Paid)
def _(state, event):
    time.sleep(float(sys.argv[2]))
    return state + event.amount

@total.merge
def _(earlier, later):
    return earlier + later

def tell():
    while len(found := multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    print(*[child.pid for child in found], flush=True)

def main():
    with open_store(sys.argv[1], events=[Paid]) as store:
        threading.Thread(target=tell, daemon=True).start()
        print("state", store.replay(total, workers=2), flush=True)
"""
_GUARDED: Final = _PROGRAM + '\nif __name__ == "__main__":\n    main()\n'
_UNGUARDED: Final = _PROGRAM + "\nmain()\n"


def started(tmp_path: Path, text: str, seconds: float) -> subprocess.Popen[str]:
    """The program, over a store of 3,000 events, each of which takes so long."""
    (tmp_path / "program.py").write_text(text)
    with open_store(tmp_path / "paid.db", events=[elsewhere.Paid]) as store:
        for _ in range(3):
            store.append("a", [elsewhere.Paid("x", 1) for _ in range(1_000)])
    return subprocess.Popen(
        [sys.executable, "program.py", "paid.db", str(seconds)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_may_have_the_fold_itself(tmp_path: Path) -> None:
    with started(tmp_path, _GUARDED, 0) as program:
        out, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert "state 3000" in out, errors


def test_a_program_without_its_guard_is_told(tmp_path: Path) -> None:
    with started(tmp_path, _UNGUARDED, 0) as program:
        out, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert "state" not in out
    assert program.returncode
    assert 'must stand below if __name__ == "__main__":' in errors


def test_a_fold_that_a_worker_does_not_find_is_told(tmp_path: Path) -> None:
    text = _GUARDED.replace("def tell", "if __name__ != '__main__':\n    del total\n\ndef tell")
    with started(tmp_path, text, 0) as program:
        _, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert "WorkerError: a worker can't import what it was sent: AttributeError" in errors
    assert "at the top of a module" in errors


def _interrupt(program: subprocess.Popen[str]) -> None:
    program.send_signal(signal.SIGINT)


def _kill(program: subprocess.Popen[str]) -> None:
    program.kill()


@pytest.mark.parametrize("end", [_interrupt, _kill])
def test_no_worker_outlives_who_wants_it(
    tmp_path: Path, end: Callable[[subprocess.Popen[str]], None]
) -> None:
    program = started(tmp_path, _GUARDED, 60)
    assert program.stdout is not None
    workers = [int(pid) for pid in program.stdout.readline().split()]
    assert len(workers) == 2
    end(program)
    _, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert program.returncode
    if end is _interrupt:
        assert errors.rstrip().endswith("KeyboardInterrupt")
    until = time.monotonic() + PATIENCE_SECONDS
    while any(map(_is_there, workers)):
        assert time.monotonic() < until, "a worker is still there"
        time.sleep(0.05)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether it has ended and only nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_many_processes_share_little_work(tmp_path: Path) -> None:
    fold: Fold[Any] = elsewhere.account
    with open_store(tmp_path / "few.db", events=[elsewhere.Paid]) as store:
        assert store.replay(fold, workers=2) == elsewhere.Account()
        assert store.replay(fold, workers=2, by="stream") == {}
        store.append("a", [elsewhere.Paid("x", 5)])
        assert store.replay(fold, workers=3, by="category") == {"a": elsewhere.Account(5)}
