"""A night that several processes play together: each deals at some of the tables, on one store."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any, Final

from bitcraps.casino import open_casino
from bitcraps.night import Night, Others, Plan, Played, Share
from bitcraps.places import Places


class CrewError(Exception):
    """One of the other processes of a night has failed."""


_START: Final[list[Barrier]] = []
"""In a process that joins a night: where it waits until all are at their tables."""


def crew(places: Places, plan: Plan, processes: int) -> Others:
    """What has the other processes play their shares of the night of a number."""

    async def play(number: int, ready: Callable[[], None]) -> list[Played]:
        loop = asyncio.get_running_loop()
        # a fork would take open connections along, so each process is started anew
        context = get_context("spawn")
        start = context.Barrier(processes)
        with ProcessPoolExecutor(processes - 1, context, _join, (start,)) as pool:
            shares = (Share(index, processes) for index in range(1, processes))
            played = [
                loop.run_in_executor(pool, partial(_play_share, places, plan, number, share))
                for share in shares
            ]
            waiting = loop.run_in_executor(None, start.wait)
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
            ended: list[asyncio.Future[Any]] = [waiting, *played]
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                ready()
            else:  # one of them has failed
                start.abort()
            try:
                return await asyncio.gather(*played)
            except Exception as error:
                raise CrewError(f"a process that dealt at tables has failed: {error}") from error

    return play


def _join(start: Barrier) -> None:
    _START.append(start)


def _play_share(places: Places, plan: Plan, number: int, share: Share) -> Played:
    return asyncio.run(_played(places, plan, number, share))


async def _played(places: Places, plan: Plan, number: int, share: Share) -> Played:
    """Play one share. Ctrl-C, which reaches all processes, closes its tables."""
    with places.open_vault() as vault:
        async with open_casino(places.location, vault) as casino:
            night = Night(casino, plan, number=number, share=share)
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, night.close)
            await asyncio.to_thread(_START[0].wait)
            await night.play()
            return night.played
