"""The log that holds what is written on a branch."""

from __future__ import annotations

import contextlib
from typing import Final

from everwhen.backends._async.backend import Backend
from everwhen.backends._async.concurrency import alone, turn
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.branch_records import Registered, branches_in
from everwhen.backends.memory import MemoryEngine
from everwhen.backends.notifier import News
from everwhen.system.fair_lock import FairLock
from everwhen.vocabulary.contract import Capabilities
from everwhen.vocabulary.errors import (
    NotAStoreError,
    ReadOnlyError,
    StoreClosedError,
    UnknownBranchError,
)

_EMPTY: Final = EmbeddedBackend(MemoryEngine())  # what there is to read of a log not made yet


class OwnLog:
    """The log that holds what is written on a branch: made at the first write, opened when needed.

    It lies beside ``root``, under the branch's id. ``news`` is published when it is opened
    or closed.
    """

    def __init__(self, root: Backend, branch: Registered) -> None:
        self.name = branch.name
        self.fork = branch.fork
        self.news = News()
        self._opened: Backend | None = None
        self._root = root
        self._id = branch.id
        self._opening = FairLock()
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What it does beyond the contract, or will."""
        return self._root.capabilities

    @property
    def is_closed(self) -> bool:
        """Whether the branch was closed."""
        return self._closed

    def check_open(self) -> None:
        """Raises `StoreClosedError` once the branch is closed."""
        if self._closed:
            raise StoreClosedError

    async def existing(self) -> Backend:
        """The log, to read from; an empty one as long as nothing has been written.

        Raises `UnknownBranchError` where it is gone, with its branch.
        """
        self.check_open()
        opened, is_there = self._opened, await self._root.has_log(self._id)
        if opened is not None and not is_there:
            raise UnknownBranchError(self.name, sorted(await self._root.view(branches_in)))
        if opened is None and is_there:
            with contextlib.suppress(NotAStoreError, ReadOnlyError):  # half made, or just deleted
                await self._open()
        return self.known

    @property
    def known(self) -> Backend:
        """The log as it was found last."""
        return self._opened or _EMPTY

    @property
    def is_written(self) -> bool:
        """Whether the log had been made when it was looked for last."""
        return self._opened is not None

    async def made(self) -> Backend:
        """The log, to write to. Raises `UnknownBranchError` where the branch has been deleted."""
        self.check_open()
        opened = self._opened
        if not await self._root.has_log(self._id):
            known = await self._root.view(branches_in)
            if opened is not None or all(branch.id != self._id for branch in known.values()):
                raise UnknownBranchError(self.name, sorted(known))
        return opened or await self._open()

    async def _open(self) -> Backend:
        async with turn(self._opening), alone(self._opening):
            self.check_open()
            if self._opened is None:
                self._opened = await self._root.open_log(self._id, self.fork.not_before)
                self.news.publish()
            return self._opened

    async def close(self) -> None:
        """Close it, if it was opened. Nothing can be asked of it afterwards."""
        async with turn(self._opening), alone(self._opening):
            if self._opened is not None:
                await self._opened.close()
            self._closed = True
        self.news.publish()
