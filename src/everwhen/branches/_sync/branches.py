# Generated from src/everwhen/branches/_async/branches.py by tools/unasync.py: edit that, then run `make sync`.
"""A store's branches: registered in the store itself, and opened from there.

A branch is a checkpoint in the root store, and from its first write on a log beside it. So making
one is one small write, and the registration decides what there is: a log that nothing refers to,
left over from a crash, does no harm. Where the root is a client of a server, all of that is done
there.
"""

from __future__ import annotations

import builtins
import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from everwhen.backends._sync.backend import Backend
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.branch_records import (
    BRANCH_PREFIX,
    MAIN,
    BranchInfo,
    Fork,
    Registered,
    branches_in,
    registered,
    registration,
)
from everwhen.backends.engine import EngineTransaction
from everwhen.backends.memory import MemoryEngine
from everwhen.branches._sync.branch_backend import BranchBackend
from everwhen.branches._sync.own_log import OwnLog
from everwhen.branches.branch_names import check_name, new_name
from everwhen.branches.lineage import children_of
from everwhen.codec.commits import new_commit_id
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import (
    BranchError,
    CorruptStoreError,
    StorageError,
    UnknownBranchError,
)
from everwhen.vocabulary.microseconds import from_micros, to_micros
from everwhen.vocabulary.query import Query

_LOG: Final = logging.getLogger("everwhen")
SCRATCH: Final = "scratch"
"""What a branch is called that is in memory only."""


class Branches:
    """The branches of a root store, over its backend. ``close`` closes those that are open."""

    def __init__(self, root: Backend) -> None:
        self.root = root
        self._open: weakref.WeakSet[Backend] = weakref.WeakSet()
        self._guard = threading.Lock()

    def fork_at(self, backend: Backend, name: str, at: int | datetime | None) -> Fork:
        """Where a branch of the backend begins. Raises `BranchError` for no such place."""
        new_name(name)
        head = backend.head()
        position = head.position
        if isinstance(at, datetime):
            try:
                position = backend.position_at(to_micros(at))
            except ValueError as error:
                raise BranchError(name, f"{at!r}: give a moment with a time zone") from error
        elif at is not None:
            if type(at) is not int or not 0 <= at <= head.position:
                raise BranchError(
                    name,
                    f"it can't begin at {at!r}; give a moment, or a position from 0 to "
                    f"{head.position}",
                )
            position = at
        if position == 0:
            return Fork()
        if position == head.position and head.recorded_at is not None:
            return Fork(position, to_micros(head.recorded_at))
        stored = _first_slice(backend, position - 1)
        if stored is None or stored.position - stored.count >= position:
            raise BranchError(
                name, f"there is no event at position {position}; give the position of an event"
            )
        following = _first_slice(backend, position)
        if following is not None and following.commit_id == stored.commit_id:
            commit = backend.stored_commit(stored.commit_id)
            before, end = commit[0].position - commit[0].count, commit[-1].position
            raise BranchError(
                name,
                f"position {position} is inside commit {UUID(bytes=stored.commit_id)}, and a "
                f"commit is on a branch as a whole or not at all; begin at {end} with it, or at "
                f"{before} without it",
            )
        return Fork(position, stored.recorded_at)

    def create(self, name: str, parent: BranchInfo | None, fork: Fork, created_at: int) -> None:
        """Register a branch of that parent. Raises `BranchError` where the name is taken."""
        new_name(name)
        if self._is_served:
            above = None if parent is None else parent.name
            self.root.serve(lambda at: at.create_branch(name, above, fork.position))
            return

        def register(transaction: EngineTransaction) -> None:
            if transaction.checkpoint(BRANCH_PREFIX + name) is not None:
                raise BranchError(name, "a branch of that name exists; take another name")
            parent_id = ""
            if parent is not None:
                known = branches_in(transaction)
                parent_id = parent.id
                if all(branch.id != parent_id for branch in known.values()):
                    raise UnknownBranchError(parent.name, sorted(known))
            branch = Registered(name, new_commit_id().hex(), parent_id, fork, created_at)
            transaction.save_checkpoint(registration(branch))

        self.root.transact(register)

    @property
    def _is_served(self) -> bool:
        """Whether a server keeps the branches."""
        return self.root.capabilities.serves_branches

    def open(self, name: str) -> tuple[BranchInfo, Backend]:
        """The branch of that name, and its backend. Raises `UnknownBranchError`."""
        if check_name(name) == MAIN:
            raise BranchError(MAIN, "that is the store itself, and it is open")
        if self._is_served:
            info, engine = self.root.serve(lambda at: at.open_branch(name))
            served = EmbeddedBackend(engine)
            self._opened(served)
            return info, served
        known = self.root.view(branches_in)
        if name not in known:
            raise UnknownBranchError(name, sorted(known))
        by_id = {branch.id: branch for branch in known.values()}
        backend = self._backend(known[name], by_id)
        head = backend.head()
        self._opened(backend)
        return _info(known[name], by_id, head.position), backend

    def open_scratch(
        self, parent: Backend, parent_name: str, fork: Fork, clock: Clock
    ) -> tuple[BranchInfo, BranchBackend]:
        """A branch of that parent whose log is in memory, and its backend. It isn't registered."""
        memory, now = EmbeddedBackend(MemoryEngine(clock)), clock()
        branch = Registered(SCRATCH, new_commit_id().hex(), "", fork, to_micros(now))
        memory.open_log(branch.id, fork.not_before)
        backend = BranchBackend(parent, OwnLog(memory, branch))
        self._opened(backend)
        position = fork.position
        return BranchInfo(SCRATCH, parent_name, position, position, now, branch.id), backend

    def _opened(self, backend: Backend) -> None:
        with self._guard:
            self._open.add(backend)

    def _backend(self, branch: Registered, by_id: dict[str, Registered]) -> BranchBackend:
        """The branch over those of its ancestors that it shows something of."""
        above = _parent(branch, by_id)
        while above is not None and branch.fork.position <= above.fork.position:
            above = _parent(above, by_id)
        parent = self.root if above is None else self._backend(above, by_id)
        own = OwnLog(self.root, branch)
        own.existing()
        return BranchBackend(parent, own, closes_parent=above is not None)

    def list(self) -> builtins.list[BranchInfo]:
        """Every branch, the oldest first."""
        if self._is_served:
            return self.root.serve(lambda at: at.branches())
        known = self.root.view(branches_in)
        by_id = {branch.id: branch for branch in known.values()}
        found: builtins.list[BranchInfo] = []
        for branch in sorted(known.values(), key=lambda branch: (branch.created_at, branch.id)):
            with self._log_of(branch) as log:
                written = (log.head()).position
            found.append(_info(branch, by_id, branch.fork.position + written))
        return found

    def rename(self, name: str, new: str) -> None:
        """Register a branch under another name."""
        new_name(new)
        if self._is_served:
            self.root.serve(lambda at: at.rename_branch(check_name(name), new))
            return

        def move(transaction: EngineTransaction) -> None:
            known = transaction.checkpoint(BRANCH_PREFIX + check_name(name))
            if known is None:
                raise UnknownBranchError(name, sorted(branches_in(transaction)))
            if new == name:
                return
            if transaction.checkpoint(BRANCH_PREFIX + new) is not None:
                raise BranchError(new, "a branch of that name exists; take another name")
            branch = registered(known)
            transaction.delete_checkpoint(BRANCH_PREFIX + name)
            transaction.save_checkpoint(registration(msgspec.structs.replace(branch, name=new)))

        self.root.transact(move)

    def delete(self, name: str, *, with_children: bool) -> None:
        """Forget a branch, then delete its log."""
        check_name(name)
        if self._is_served:
            self.root.serve(lambda at: at.delete_branch(name, with_children=with_children))
            return

        def forget(transaction: EngineTransaction) -> builtins.list[Registered]:
            known = branches_in(transaction)
            if name not in known:
                raise UnknownBranchError(name, sorted(known))
            children = children_of(known[name].id, known.values())
            if children and not with_children:
                names = ", ".join(branch.name for branch in children)
                raise BranchError(
                    name,
                    f"other branches were made from it ({names}); delete them first, or with it",
                )
            gone = [*reversed(children), known[name]]
            for branch in gone:
                transaction.delete_checkpoint(BRANCH_PREFIX + branch.name)
            return gone

        for branch in self.root.transact(forget):
            try:
                self.root.drop_log(branch.id)
            except StorageError as error:
                _LOG.warning("branch %s is deleted, but its log is still there: %s", name, error)

    def probe_purge(self) -> None:
        """Raises `StorageError` where ``purge`` would find no room, or can't write."""
        for log in self._logs():
            log.probe_purge()

    def purge(self) -> None:
        """Leave no trace of what was deleted, in the root store and in every branch."""
        for log in self._logs():
            log.purge()

    def _logs(self) -> Iterator[Backend]:
        """The root's log and those of all branches, each open for as long as it is looked at.

        A server looks at all of them itself.
        """
        yield self.root
        if self._is_served:
            return
        for branch in (self.root.view(branches_in)).values():
            with self._log_of(branch) as log:
                yield log

    @contextmanager
    def _log_of(self, branch: Registered) -> Iterator[Backend]:
        """The branch's own log, open for as long as it is looked at."""
        own = OwnLog(self.root, branch)
        try:
            yield own.existing()
        finally:
            own.close()

    def close(self) -> None:
        """Close every branch that is open."""
        with self._guard:
            opened = [*self._open]
            self._open.clear()
        for backend in opened:
            backend.close()


def _parent(branch: Registered, by_id: dict[str, Registered]) -> Registered | None:
    if not branch.parent:
        return None
    if branch.parent not in by_id:
        raise CorruptStoreError(
            f"branch {branch.name!r} was made from one that is missing; restore the store from "
            f"a backup"
        )
    return by_id[branch.parent]


def _info(branch: Registered, by_id: dict[str, Registered], head: int) -> BranchInfo:
    above = _parent(branch, by_id)
    return BranchInfo(
        branch.name,
        MAIN if above is None else above.name,
        branch.fork.position,
        head,
        from_micros(branch.created_at),
        branch.id,
    )


def _first_slice(backend: Backend, after: int) -> StoredSlice | None:
    """The first slice with events after the position."""
    query = Query().after(after)
    while True:
        page = backend.read(query, 1)
        if page.slices or page.end:
            return page.slices[0] if page.slices else None
        query = query.after(page.cursor)
