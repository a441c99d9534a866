"""Who folds parts of history elsewhere: processes here or, by `Ray`, on a cluster.

A worker gets a `Task` as bytes and gives an outcome back as bytes. It reads history by itself, from
the place that the task names.
"""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Final, Protocol, cast

import msgspec

from everwhen.backends.locations import shown
from everwhen.codec.event_types import EventTypes
from everwhen.privacy.keys import KeyProvider
from everwhen.privacy.vault import Vault
from everwhen.state.fold import Fold
from everwhen.store.replay_parts import Failure, HistoryPart, distance_of
from everwhen.system.worker_processes import (
    StoppedError,
    WorkerCall,
    WorkerProcesses,
    restored,
    sendable,
    tell,
    worker_processes,
)
from everwhen.vocabulary.errors import DeclarationError, UnknownBranchError, WorkerError
from everwhen.vocabulary.personal_data import Plaintext

_NOT_SENDABLE: Final = (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError)
"""What pickling raises for what it can't pickle."""


class HistoryPlace(Protocol):
    """Where workers read history: the one thing that another source, such as an archive, has to be.

    It is pickled, and what it needs is named in it.
    """

    def opened(self) -> AbstractContextManager[Any]:
        """A store of the sync flavour, to read from."""
        ...


class VaultPlace(msgspec.Struct, frozen=True):
    """A vault, by its file and what unwraps its keys."""

    path: str
    keys: KeyProvider


class StorePlace(msgspec.Struct, frozen=True):
    """A store, or a branch of it, by its location: opened there for reading only."""

    location: str
    branch: tuple[str, str] | None
    """Its name and its id."""
    types: EventTypes
    steps: tuple[Any, ...]
    vault: VaultPlace | Plaintext | None

    def __repr__(self) -> str:
        return f"StorePlace({shown(self.location)!r}, {self.branch!r})"

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The store, or the branch."""
        sync: Any = importlib.import_module("everwhen.store._sync.store")  # in every flavour
        with ExitStack() as stack:
            vault: Any = self.vault
            if isinstance(vault, VaultPlace):
                vault = stack.enter_context(Vault(vault.path, vault.keys, create=False))
            store = stack.enter_context(
                sync.open_store(
                    self.location, events=self.types, steps=self.steps, vault=vault, read_only=True
                )
            )
            if self.branch is not None:
                name, identity = self.branch
                store = stack.enter_context(store.branch(name))
                if store.branch_info.id != identity:
                    raise UnknownBranchError(name, [])
            yield store


class Task(msgspec.Struct, frozen=True):
    """What a worker does."""

    place: HistoryPlace
    fold: Fold[Any]
    part: HistoryPart


def sent(place: HistoryPlace, fold: Fold[Any], parts: Sequence[HistoryPart]) -> list[bytes]:
    """The tasks, as they go to workers. Raises `DeclarationError` for what can't go there."""
    named: dict[str, Any] = {"the fold": fold}
    if isinstance(place, StorePlace):
        named |= {
            "the store's event types": place.types,
            "the store's steps": place.steps,
            "what unwraps the vault's keys": place.vault,
        }
    for name, one in named.items():
        try:
            pickle.dumps(one)
        except _NOT_SENDABLE as error:
            raise DeclarationError(
                f"{name} can't go to other processes: {error}; give it, and what it is made of, a "
                f"name at the top of a module, where they can import it: or use workers=1"
            ) from error
    return [pickle.dumps(Task(place, fold, part)) for part in parts]


# In a worker


def outcome_of(task: bytes, told: Callable[[int], None]) -> bytes:
    """What came of a task: its states, or what was raised. ``told`` hears how far it is."""
    try:
        work: Task = pickle.loads(task)  # noqa: S301 (it is what this program sent)
    except Exception as error:  # noqa: BLE001 (modules run when they are imported)
        why = (
            f"a worker can't import what it was sent: {error!r}; folds, event classes and the like "
            f'stand at the top of a module, not in a prompt nor below if __name__ == "__main__":'
        )
        return pickle.dumps(_SentFailure(sendable(WorkerError(why)), 0))
    reached = 0

    def progress(distance: int) -> None:
        nonlocal reached
        reached = max(reached, distance)
        told(reached)

    try:
        replay: Any = importlib.import_module("everwhen.store._sync.replay")
        with work.place.opened() as store:
            states = replay.folded_part(store.kernel, work.fold, work.part, progress)
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001 (it is raised where the state is wanted)
        distance = distance_of(error, work.part, reached)
        return pickle.dumps(_SentFailure(sendable(error), distance))
    try:
        return pickle.dumps(states)
    except _NOT_SENDABLE as error:
        why = f"a state of {work.fold!r} can't come back from another process: {error}"
        return pickle.dumps(_SentFailure(sendable(WorkerError(why)), reached))


class _SentFailure(msgspec.Struct, frozen=True):
    """What was raised in a worker, and how far into the part."""

    error: tuple[Any, ...]
    distance: int


def received(outcome: bytes) -> Any:
    """A part's states, or its `Failure`."""
    found = pickle.loads(outcome)  # noqa: S301 (it is what our own worker sent)
    if isinstance(found, _SentFailure):
        return Failure(restored(*found.error), found.distance)
    return found


# Where they are started


class Running(Protocol):
    """Tasks that are worked on elsewhere."""

    def outcomes(self) -> Sequence[bytes | None]:
        """What came of each task; None while it isn't done. Raises `WorkerError`."""
        ...

    def reached(self, index: int) -> int:
        """How far a task is, as far as that is known."""
        ...

    def stop(self) -> bool:
        """End what still goes on; whether it has ended."""
        ...


class Runner(Protocol):
    """Who works on tasks: as many at once as there are ``workers``."""

    @property
    def workers(self) -> int:
        """How many tasks are worked on at once."""
        ...

    def started(self, tasks: Sequence[bytes]) -> AbstractContextManager[Running]:
        """The tasks, under way; when this is left, they have ended."""
        ...


class LocalProcesses(msgspec.Struct, frozen=True):
    """Processes on this machine."""

    workers: int

    @contextmanager
    def started(self, tasks: Sequence[bytes]) -> Iterator[Running]:
        """The tasks, under way."""
        count = min(self.workers, len(tasks))
        with worker_processes(count, len(tasks)) as processes:
            work = [processes.submit(_in_process, index, one) for index, one in enumerate(tasks)]
            yield _LocalRunning(processes, work)


def _in_process(index: int, task: bytes) -> bytes:
    return outcome_of(task, partial(tell, index))


class _LocalRunning:
    def __init__(self, processes: WorkerProcesses, work: list[WorkerCall[bytes]]) -> None:
        self._processes = processes
        self._work = work

    def outcomes(self) -> Sequence[bytes | None]:
        return [one.result() if one.done() else None for one in self._work]

    def reached(self, index: int) -> int:
        return int(self._processes.progress[index])

    def stop(self) -> bool:
        return self._processes.stop()


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def runner_of(workers: object) -> Runner:
    """Who works: so many processes, or who was given. Raises `DeclarationError`."""
    if isinstance(workers, int) and not isinstance(workers, bool) and workers >= 1:
        return LocalProcesses(workers)
    if callable(getattr(workers, "started", None)) and hasattr(workers, "workers"):
        found: Runner = cast("Any", workers)
        return found
    raise DeclarationError(
        f"workers={workers!r:.80}: give how many processes, 1 or more, or a Ray(…)"
    )
