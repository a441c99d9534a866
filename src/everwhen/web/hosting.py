"""What an application serves: a store with its branches, and what it knows of the user's code.

Each store comes in both flavours over one engine. What waits (pages, appends, subscriptions) is
awaited with the async one; what computes (states, searches, merges) runs in a thread with the
sync one, so that nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from importlib import metadata
from typing import Any, Final, ParamSpec, TypeVar

import anyio.to_thread

import everwhen
from everwhen.aio import Store as AsyncStore
from everwhen.audit.aio import AuditLog
from everwhen.backends._async.embedded import EmbeddedBackend as AsyncEmbeddedBackend
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.branch_records import BRANCH_PREFIX, registered
from everwhen.errors import BranchError, DeclarationError
from everwhen.state import Fold, document, documents
from everwhen.store._sync.kernel import Kernel
from everwhen.web.debug_sessions import DebugSessions
from everwhen.web.finds import Finds
from everwhen.web.governance import Governance
from everwhen.web.limits import LiveAnswers, RequestLimits
from everwhen.web.live_hub import LiveHub
from everwhen.web.machines import RecentMachines
from everwhen.web.metrics import WebMetrics
from everwhen.web.problems import UNKNOWN, ProblemError
from everwhen.web.recent_pages import RecentPages

P = ParamSpec("P")
T = TypeVar("T")

_COMPUTING: Final = 4
"""Computations at a time: they take turns at Python's lock, so more of them only make each wait."""


class HostedStore:
    """One branch, or the store itself: ``store`` is awaited, ``blocking`` is for threads.

    ``hub`` is for those who follow it; ``closed_positions`` remembers where times are, in
    microseconds, before which nothing more can be recorded; ``pages`` are those asked for last.
    """

    def __init__(self, store: AsyncStore, blocking: everwhen.Store, live: LiveAnswers) -> None:
        self.store = store
        self.blocking = blocking
        self.hub = LiveHub(store, live.end)
        self.closed_positions: dict[int, int] = {}
        self.pages = RecentPages()

    async def close(self) -> None:
        """Close both."""
        self.hub.close()
        self.blocking.close()
        await self.store.close()


class Hosting:
    """The store that is served, its branches as they are asked for, and the user's declarations.

    ``fingerprint`` stands for the code that makes answers of what is stored.
    """

    def __init__(
        self,
        store: AsyncStore,
        folds: Mapping[str, Fold[Any]],
        *,
        governance: Governance,
        audit: AuditLog | None,
        limits: RequestLimits,
    ) -> None:
        self.folds: Mapping[str, Fold[Any]] = {
            "document": document,
            "documents": documents,
            **folds,
        }
        self.fingerprint = _fingerprint(store)
        self.machines = RecentMachines()
        self.governance = governance
        self.audit = audit
        self.limits = limits
        self.live = LiveAnswers(limits.live_answers)
        self.metrics = WebMetrics()
        self.finds = Finds()
        self.debug_sessions = DebugSessions()
        self.rebuilds: dict[str, asyncio.Task[None]] = {}
        self._main = HostedStore(store, blocking_twin(store), self.live)
        self._branches: dict[str, HostedStore] = {}
        self._opening = asyncio.Lock()
        self._computing = ThreadPoolExecutor(_COMPUTING, "everwhen-web")

    @property
    def main(self) -> HostedStore:
        """The store that the application was made for."""
        return self._main

    async def at(self, branch: str) -> HostedStore:
        """The store of that branch. Raises `ProblemError` where there is none."""
        if branch == self._main.store.name:
            return self._main
        async with self._opening:
            found = self._branches.get(branch)
            if found is not None and not await self._is_still(branch, found):
                await self._branches.pop(branch).close()
                found = None
            if found is None:
                try:
                    store = await self._main.store.branch(branch)
                except BranchError as error:  # a name that no branch can have, too
                    raise ProblemError(UNKNOWN, str(error)) from error
                blocking = await self.compute(self._main.blocking.branch, branch)
                found = self._branches[branch] = HostedStore(store, blocking, self.live)
        return found

    async def _is_still(self, name: str, opened: HostedStore) -> bool:
        """Whether a branch is still there under its name, and is no other one."""
        known = await self._main.store.kernel.branches.root.checkpoint(BRANCH_PREFIX + name)
        info = opened.store.branch_info
        return known is not None and info is not None and registered(known).id == info.id

    async def compute(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in a thread, and wait for what it returns; raises what it raises.

        Where whoever waits is cancelled, the call goes on by itself to its end, and counts as one
        of those that run until then.
        """
        given = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._computing, partial(given.run, work, *args, **kwargs)
        )

    async def close(self) -> None:
        """Close the branches that were opened. The store is its owner's to close."""
        self._main.hub.close()
        for rebuild in self.rebuilds.values():
            rebuild.cancel()
        await asyncio.gather(*self.rebuilds.values(), return_exceptions=True)
        opened = [*self._branches.values()]
        self._computing.shutdown(wait=False, cancel_futures=True)
        self.debug_sessions.close()
        await anyio.to_thread.run_sync(self.finds.close)
        self._branches.clear()
        for one in opened:
            await one.close()


def _fingerprint(store: AsyncStore) -> str:
    """Differs where other code may show the same event differently.

    Nothing tells two upcasts of one name apart, so with upcasts each process has its own.
    """
    types = store.event_types
    told: list[object] = [metadata.version("everwhen"), types.has_upcasts, store.vault is not None]
    told += sorted((declared.name, declared.version) for declared in types.current().values())
    if types.has_upcasts:
        told.append(os.urandom(8))
    return blake2b(repr(told).encode(), digest_size=4).hexdigest()


def blocking_twin(store: AsyncStore) -> everwhen.Store:
    """The sync store over the same engine. It is not to be closed: the engine is the store's.

    Raises `DeclarationError` for a store over anything but an engine of Everwhen's.
    """
    kernel = store.kernel
    backend = kernel.branches.root
    if not isinstance(backend, AsyncEmbeddedBackend):
        raise DeclarationError(
            f"{backend!r:.80} can't be served: give a store that open_store(…) opened"
        )
    twin = everwhen.Store.of(
        Kernel(
            EmbeddedBackend(backend.engine),
            types=kernel.codec.types,
            steps=kernel.codec.steps,
            vault=kernel.given_vault,
            clock=kernel.clock,
            new_id=kernel.new_id,
            snapshot_keys=kernel.snapshot_keys,
        )
    )
    return twin if kernel.branch is None else twin.branch(kernel.branch.name)
