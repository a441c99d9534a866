"""What a hosted store promises of its computations."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen.aio import Store, open_store
from everwhen.web.governance import Governance
from everwhen.web.hosting import Hosting
from everwhen.web.limits import RequestLimits


def _hosting(store: Store) -> Hosting:
    return Hosting(store, {}, governance=Governance(), audit=None, limits=RequestLimits())


async def test_a_computation_that_nobody_waits_for_counts_until_its_end() -> None:
    begun, ending = threading.Semaphore(0), threading.Event()
    running = most = 0
    lock = threading.Lock()

    def compute() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        begun.release()
        ending.wait(PATIENCE_SECONDS)
        with lock:
            running -= 1

    async with open_store("memory:") as store:
        hosting = _hosting(store)
        given_up = [asyncio.ensure_future(hosting.compute(compute)) for _ in range(4)]
        for _ in given_up:
            assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE_SECONDS)
        for one in given_up:
            one.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        fifth = asyncio.ensure_future(hosting.compute(compute))
        await asyncio.sleep(0.05)
        ending.set()
        await fifth
        assert most == 4, "a fifth began beside four that had not ended"
        await hosting.close()


async def test_what_waits_for_its_turn_is_given_up_with_its_request() -> None:
    ending = threading.Event()
    done: list[int] = []
    async with open_store("memory:") as store:
        hosting = _hosting(store)
        four = [
            asyncio.ensure_future(hosting.compute(ending.wait, PATIENCE_SECONDS)) for _ in range(4)
        ]
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(hosting.compute(done.append, 1))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ending.set()
        await asyncio.gather(*four)
        await hosting.compute(done.append, 2)
        assert done == [2]
        await hosting.close()
