# Generated from src/everwhen/branches/_async/own_log.py by tools/unasync.py: edit that, then run `make sync`.
"""The log that holds what is written on a branch."""

from __future__ import annotations

import contextlib

from everwhen.backends._sync.backend import Backend
from everwhen.backends._sync.concurrency import alone, sleep, turn
from everwhen.backends.branch_records import Registered, branches_in
from everwhen.backends.notifier import News
from everwhen.system.fair_lock import FairLock
from everwhen.vocabulary.contract import Capabilities
from everwhen.vocabulary.errors import (
    NotAStoreError,
    ReadOnlyError,
    StoreClosedError,
    UnknownBranchError,
)


class OwnLog:
    """The log that holds what is written on a branch: made at the first write, opened when needed.

    It lies beside ``root``, under the branch's id. ``news`` is published when it is opened
    or closed.
    """

    def __init__(self, root: Backend, branch: Registered) -> None:
        self.name = branch.name
        self.fork = branch.fork
        self.news = News()
        self.opened: Backend | None = None
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

    def existing(self) -> Backend | None:
        """The log, or None as long as nothing has been written.

        Raises `UnknownBranchError` where it is gone, with its branch.
        """
        self.check_open()
        opened, is_there = self.opened, self._root.has_log(self._id)
        if opened is not None and not is_there:
            raise UnknownBranchError(self.name, sorted(self._root.view(branches_in)))
        if opened is None and is_there:
            with contextlib.suppress(NotAStoreError, ReadOnlyError):  # half made, or just deleted
                self._open()
        if self.opened is None:
            sleep(0)  # nothing else may need waiting for, and others want their turn
        return self.opened

    def made(self) -> Backend:
        """The log, to write to. Raises `UnknownBranchError` where the branch has been deleted."""
        self.check_open()
        opened = self.opened
        if not self._root.has_log(self._id):
            known = self._root.view(branches_in)
            if opened is not None or all(branch.id != self._id for branch in known.values()):
                raise UnknownBranchError(self.name, sorted(known))
        return opened or self._open()

    def _open(self) -> Backend:
        with turn(self._opening), alone(self._opening):
            self.check_open()
            if self.opened is None:
                self.opened = self._root.open_log(self._id, self.fork.not_before)
                self.news.publish()
            return self.opened

    def close(self) -> None:
        """Close it, if it was opened. Nothing can be asked of it afterwards."""
        with turn(self._opening), alone(self._opening):
            if self.opened is not None:
                self.opened.close()
            self._closed = True
        self.news.publish()
