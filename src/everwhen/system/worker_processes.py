"""Worker processes: started anew, so that they share nothing, and ended with whoever wants them.

What goes there and comes back is pickled, so code goes by its name in a module. Workers leave an
interrupt by Ctrl-C to the process that started them, which ends them; should that one be killed,
they end by themselves. Nobody waits for a worker here: its maker looks from time to time.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Generic, TypeAlias, TypeVar

from everwhen.vocabulary.errors import WorkerError

T = TypeVar("T")

_GRACE_SECONDS: Final = 1.0
"""What a worker that isn't wanted any more has to come to the end of a page, before it is killed:
it only reads, or writes what may be cut off."""

_Call: TypeAlias = tuple[int, Callable[..., Any], tuple[Any, ...]]

_DID_NOT_START: Final = (
    "the worker processes did not start. Each imports the program, so what a program does must "
    'stand below if __name__ == "__main__":, and its modules must be importable; what went wrong '
    "is on its standard error"
)
_ENDED: Final = (
    "a worker process ended before its work was done ({}): it was killed, by somebody or for want "
    "of memory, or the code that ran there ended it; try fewer workers"
)

_progress: Any = None
_stopped: Any = None


class StoppedError(Exception):
    """Nobody wants to know any more; raised in a worker."""


class RemoteTraceback(Exception):  # noqa: N818 (as Python's own is called)
    """What an error's traceback was in the worker."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f"\n{self.text}"


class WorkerCall(Generic[T]):
    """A call of a function in a worker."""

    def __init__(self, workers: WorkerProcesses) -> None:
        self._workers = workers
        self._outcome: tuple[bool, Any] | None = None

    def done(self) -> bool:
        """Whether it is over, one way or another."""
        if self._outcome is None:
            self._workers.look()
        return self._outcome is not None

    def result(self) -> T:
        """What came of it, once it is done. Raises what the function raised, and `WorkerError`."""
        if self._outcome is None:
            raise WorkerError("the work isn't done")
        is_good, value = self._outcome
        if not is_good:
            raise value
        found: T = value
        return found

    def finish(self, *, is_good: bool, value: Any) -> None:
        """Once, when it is over."""
        if self._outcome is None:
            self._outcome = is_good, value


class _Worker:
    """One process, and the piece of work that it has, if it has any."""

    def __init__(self, context: Any, progress: Any, stopped: Any) -> None:
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, progress, stopped), name="everwhen-worker", daemon=True
        )
        self.process.start()
        theirs.close()
        self.has_begun = False
        self.piece: int | None = None


class WorkerProcesses:
    """Some processes, and the work that they share.

    ``progress`` has a number for each piece of work, which its worker sets by `tell`.
    """

    def __init__(self, count: int, pieces: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.progress = context.RawArray("q", pieces)
        self._stopped = context.RawValue("b", 0)
        self._work: list[WorkerCall[Any]] = []
        self._waiting: deque[_Call] = deque()
        self._workers: list[_Worker] = []
        self._killed_at: float | None = None
        try:
            for _ in range(count):
                self._workers.append(_Worker(context, self.progress, self._stopped))
        except BaseException:
            self.kill()
            raise

    def submit(self, function: Callable[..., T], *arguments: Any) -> WorkerCall[T]:
        """Have a worker call a function of a module."""
        work: WorkerCall[T] = WorkerCall(self)
        self._waiting.append((len(self._work), function, arguments))
        self._work.append(work)
        return work

    def look(self) -> None:
        """Take in what has come, and give whoever is idle something to do."""
        connections = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(connections), 0):
            worker = connections[connection]  # type: ignore[index]
            try:
                self._take(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._lose(worker)
                return
        for worker in self._workers:
            if worker.has_begun and worker.piece is None and self._waiting:
                call = self._waiting.popleft()
                worker.piece = call[0]
                try:
                    worker.connection.send(call)
                except OSError:
                    self._lose(worker)
                    return

    def _take(self, worker: _Worker, message: tuple[bool, Any] | None) -> None:
        if message is None:
            worker.has_begun = True
        elif worker.piece is not None:
            is_good, value = message
            piece, worker.piece = worker.piece, None
            if not is_good:
                value = restored(*value)
            self._work[piece].finish(is_good=is_good, value=value)

    def _lose(self, lost: _Worker) -> None:
        """One has ended by itself: so nothing that isn't done yet will be."""
        lost.process.join(_GRACE_SECONDS)
        code = lost.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        self._waiting.clear()
        for work in self._work:
            error = WorkerError(_ENDED.format(how) if lost.has_begun else _DID_NOT_START)
            work.finish(is_good=False, value=error)
        self.kill()

    def stop(self) -> bool:
        """End what still goes on; whether it has ended. Call it until it has."""
        self._stopped.value = 1
        self._waiting.clear()
        now = time.monotonic()
        if self._killed_at is None:
            self._killed_at = now + _GRACE_SECONDS
        self.look()
        if any(worker.piece is not None for worker in self._workers) and now < self._killed_at:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """End all of them at once."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.connection.close()
            worker.process.close()


@contextmanager
def worker_processes(count: int, pieces: int) -> Iterator[WorkerProcesses]:
    """That many processes, for that many pieces of work; when this is left, they have ended."""
    workers = WorkerProcesses(count, pieces)
    try:
        yield workers
    finally:
        workers.kill()


# In a worker


def tell(piece: int, progress: int) -> None:
    """In a worker: how far a piece of work is. Raises `StoppedError` once nobody wants it."""
    if _stopped.value:
        raise StoppedError
    _progress[piece] = progress


def _serve(connection: Connection, progress: Any, stopped: Any) -> None:
    global _progress, _stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _progress, _stopped = progress, stopped
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        connection.send(None)
        while True:
            connection.send(_outcome(*connection.recv()[1:]))
    except (EOFError, OSError):
        return  # nobody is there


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        found = function(*arguments)
        pickle.dumps(found)
    except Exception as error:  # noqa: BLE001 (it is raised where the work is wanted)
        return False, sendable(error)
    return True, found


def sendable(error: Exception) -> tuple[bytes | None, tuple[str, ...], str, str]:
    """An error as it can be sent: itself if it can be, its notes, its text and its traceback."""
    packed: bytes | None
    try:
        packed = pickle.dumps(error)
        if type(pickle.loads(packed)) is not type(error):  # noqa: S301 (it was just made)
            packed = None
    except Exception:  # noqa: BLE001 (an error of somebody's own, made in its own way)
        packed = None
    notes = tuple(getattr(error, "__notes__", ()))
    return packed, notes, repr(error), "".join(traceback.format_exception(error))


def restored(packed: bytes | None, notes: tuple[str, ...], text: str, trace: str) -> Exception:
    """The error again, with the worker's traceback as its cause."""
    error: Exception
    if packed is None:
        error = WorkerError(f"work failed in another process: {text}")
    else:
        error = pickle.loads(packed)  # noqa: S301 (it is what our own worker sent)
    for note in notes:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    error.__cause__ = RemoteTraceback(trace)
    return error


def _end_with_parent() -> None:
    """End this process where nobody is there any more who wants its work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
