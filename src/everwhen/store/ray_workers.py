"""Replaying on a Ray cluster. Needs the library ray, of the extra ``everwhen[ray]``."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from everwhen.store.replay_workers import Running, outcome_of
from everwhen.vocabulary.errors import DeclarationError, UnsupportedError, WorkerError

if TYPE_CHECKING:
    from types import ModuleType

_MAIN: Final = "__main__"


class Ray:
    """Workers of a Ray cluster, for `Store.replay`; a context manager, which leaves the cluster.

    ``address`` is the cluster's, as ``ray.init`` takes it; without one, what ``RAY_ADDRESS`` names,
    or else one that is started on this machine. A program that has called ``ray.init`` stays on its
    own. ``workers`` are how many parts are folded at once, as many as the cluster has processors
    unless given. It connects here, which blocks for some seconds.

    Each worker opens the store by its file's path, so all of the machines must see that file there,
    and imports the fold and the event classes by their names, so the program's modules must be
    installed there, and Everwhen. A fold of the program's own script can't go. Where a worker is
    lost, Ray has another one do its part again.

    Raises `UnsupportedError` without the extra ``everwhen[ray]``, `DeclarationError` for a number
    of workers that can't be, and what ``ray.init`` raises.
    """

    def __init__(self, address: str | None = None, *, workers: int | None = None) -> None:
        if workers is not None and (type(workers) is not int or workers < 1):
            raise DeclarationError(f"Ray: workers={workers!r}; give 1 or more, or leave it out")
        self._ray = ray = _library()
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            ray.init(address, include_dashboard=False if address is None else None)
        self._workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))

    def __repr__(self) -> str:
        return f"Ray(workers={self._workers})"

    @property
    def workers(self) -> int:
        """How many parts are folded at once."""
        return self._workers

    @contextmanager
    def started(self, tasks: Sequence[bytes]) -> Iterator[Running]:
        """The tasks, under way; when this is left, they have ended.

        Raises `DeclarationError` where something is of the program's own script.
        """
        for task in tasks[:1]:
            if any(argument == _MAIN for _, argument, _ in pickletools.genops(task)):
                raise DeclarationError(
                    "the fold or an event class is of the program's own script, which isn't there "
                    "on the cluster; put it into a module that is installed there"
                )
        running = _RayRunning(self._ray, tasks, self._workers)
        try:
            yield running
        finally:
            running.stop()

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here; calling it again does nothing."""
        if self._is_ours:
            self._is_ours = False
            self._ray.shutdown()

    def __enter__(self) -> Ray:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class _RayRunning:
    def __init__(self, ray: ModuleType, tasks: Sequence[bytes], at_once: int) -> None:
        self._ray: Any = ray
        self._function = self._ray.remote(_on_cluster)
        self._waiting = list(enumerate(tasks))[::-1]
        self._under_way: dict[Any, int] = {}
        self._at_once = at_once
        self._outcomes: list[bytes | None] = [None] * len(tasks)

    def outcomes(self) -> Sequence[bytes | None]:
        while self._waiting and len(self._under_way) < self._at_once:
            index, task = self._waiting.pop()
            self._under_way[self._function.remote(task)] = index
        if self._under_way:
            references = list(self._under_way)
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
            for reference in ready:
                self._outcomes[self._under_way.pop(reference)] = self._result(reference)
        return self._outcomes

    def _result(self, reference: Any) -> bytes:
        try:
            found: bytes = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            raise WorkerError(f"a worker of the cluster was lost: {error}") from error
        return found

    def reached(self, index: int) -> int:
        del index
        return 0  # nobody says; so an earlier part is waited for

    def stop(self) -> bool:
        while self._under_way:
            self._ray.cancel(self._under_way.popitem()[0], force=True)
        return True


def _on_cluster(task: bytes) -> bytes:
    return outcome_of(task, lambda _: None)


def _library() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise UnsupportedError(
            "replaying on a cluster needs the library ray: pip install 'everwhen[ray]'"
        ) from error
    library: ModuleType = ray
    return library
