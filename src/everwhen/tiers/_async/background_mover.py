"""Moving history in the background, again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from everwhen.backends._async.concurrency import Background, sleep
from everwhen.privacy.failure_texts import shown_failure
from everwhen.store._async.store import Store
from everwhen.system.limits import NEWS_SECONDS
from everwhen.tiers._async.mover_lease import MoverLease
from everwhen.tiers.history_policy import MovedSegment
from everwhen.vocabulary.errors import BusyError, StoreClosedError

_LOG: Final = logging.getLogger("everwhen")


class Moves(Protocol):
    """Moves what there is to move, and gives the lease back."""

    async def __call__(self, lease: MoverLease, tell: Callable[[MovedSegment], None]) -> None:
        """``tell`` is called with each segment; what it raises ends it."""
        ...


class BackgroundMover:
    """A thread, or a task, that moves what a policy asks for; as a context manager, or `close`.

    One mover works at a time, over all processes: the others wait for their turn, and one takes
    over when the lease of one that was killed has run out. Made by `HistoryManager.in_background`.
    """

    def __init__(
        self,
        store: Store,
        move: Moves,
        progress: Callable[[MovedSegment], None] | None,
        *,
        every_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._store = store
        self._move = move
        self._progress = progress
        self._every = every_seconds
        self._lease_seconds = lease_seconds
        self._lease = MoverLease(store, lease_seconds)
        self._closed = False
        self._background: Background | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "in the background"
        return f"<BackgroundMover on {self._store!r}, every {self._every:g} s, {state}>"

    async def _run(self) -> None:
        while not self._closed:
            try:
                pause = await self._turn()
            except StoreClosedError:
                return
            until = time.monotonic() + pause
            while not self._closed and (left := until - time.monotonic()) > 0:
                await sleep(min(left, NEWS_SECONDS))

    async def _turn(self) -> float:
        """Move what there is to move, if nobody else does; seconds until the next turn."""
        try:
            if await self._lease.take(by_force=False):
                await self._move(self._lease, self._tell)
                return self._every
        except StoreClosedError:
            raise
        except _Closing:
            return 0.0
        except BusyError as error:
            _LOG.info("moving history in the background waits: %s", error)
        except Exception as error:  # noqa: BLE001  whatever it is: the application goes on
            shown = shown_failure(error, self._store.vault)
            _LOG.error("history isn't moved, and it is tried again: %s", shown)
            await self._lease.end(shown)
            return self._every
        return min(self._every, self._lease_seconds / 4)

    def _tell(self, moved: MovedSegment) -> None:
        if self._progress is not None:
            self._progress(moved)
        if self._closed:
            raise _Closing

    async def close(self) -> None:
        """Stop, after the segment that is being moved; calling it again does nothing."""
        self._closed = True
        if self._background is not None:
            background, self._background = self._background, None
            await background.join()

    async def __aenter__(self) -> BackgroundMover:
        self._background = Background(self._run)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()


class _Closing(Exception):  # noqa: N818 (not an error)
    """It is being closed."""
