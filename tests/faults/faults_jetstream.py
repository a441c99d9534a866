"""A client on a cluster: python -m tests.faults.faults_jetstream URL NAME SEED FOLDER.

Several threads append, read and save a checkpoint, until there is a file ``stop`` in the folder,
and note each operation in the file NAME once it has ended. A commit whose outcome isn't told is
repeated by its commit id, unless the store was to give it one. The client may be killed and started again, with the same replica.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from uuid import uuid4

import msgspec
from tests.operation_histories import Logged, Operation

from everwhen import (
    ANY,
    Commit,
    Condition,
    ConditionError,
    ConflictError,
    Event,
    NewEvent,
    Query,
    RecordedEvent,
    Store,
    Write,
    open_store,
)
from everwhen.errors import CorruptStoreError, NewerStoreError, NotAStoreError, StorageError
from everwhen.vocabulary import Checkpoint

THREADS = 3
COUNTERS = 4
PATIENCE = 8.0
"""For how many seconds a call goes on asking; the caller goes on after that."""
BETWEEN_TRIES = 0.05
SAVED = "saved"
FOR_GOOD = (CorruptStoreError, NewerStoreError, NotAStoreError)
"""What no fault of a server or of the network may end in."""


class Step(Event):
    """What one operation writes. It says what was demanded, so that the log alone can be judged."""

    key: str
    expected: int | None = None
    unique: str | None = None
    after: int = 0


def logged(recorded: RecordedEvent[Step]) -> Logged:
    """The event as the judge of histories takes it."""
    step = recorded.event
    return Logged(
        recorded.position,
        step.key,
        recorded.stream,
        recorded.version,
        recorded.recorded_at.isoformat(),
        step.expected,
        step.unique,
        step.after,
    )


class Client:
    """One thread's operations."""

    def __init__(
        self,
        store: Store,
        name: str,
        thread: str,
        seed: str,
        note: Callable[[Operation], None],
        *,
        is_fresh: bool,
    ) -> None:
        self._store = store
        self._client, self._thread = name, thread
        self._is_fresh = is_fresh
        self._chance = random.Random(seed)
        self._note = note
        self._life = f"{thread}.{time.monotonic_ns()}"

    def work(self, stop: Path) -> None:
        for number in count():
            if stop.exists():
                return
            chance, key = self._chance.random(), f"{self._life}.{number}"
            if chance < 0.2:
                self._read()
            elif chance < 0.3:
                self._save(stop)
            else:
                try:
                    commit = self._planned(key, chance)
                except StorageError as error:
                    tell(error)
                else:
                    self._write(key, commit, stop)

    def _planned(self, key: str, chance: float) -> Commit:
        own = f"own-{self._thread.replace('.', '-')}"
        if chance < 0.65:
            stream = f"counter-{self._chance.randrange(COUNTERS)}"
            version = self._store.version(stream)
            counted = Write(stream, [Step(key=key, expected=version)], version)
            return Commit([counted, Write(own, [Step(key=key)], ANY)], id=uuid4())
        if chance < 0.85:
            tag = f"name:{int(time.time() * 4)}"
            head = self._store.head().position
            after = self._chance.choice([0, max(0, head - 100)])
            claim = NewEvent(event=Step(key=key, unique=tag, after=after), tags=(tag,))
            return Commit([Write(own, [claim], ANY)], Condition(Query().tags(tag), after), uuid4())
        commit_id = uuid4() if chance < 0.92 else None
        return Commit([Write(own, [Step(key=key), Step(key=key)], ANY)], id=commit_id)

    def _write(self, key: str, commit: Commit, stop: Path) -> None:
        operation = Operation(self._client, self._thread, time.monotonic(), 0, "open", key)
        until = None
        while until is None or time.monotonic() < until:
            try:
                receipt = self._store.commit(commit)
            except ConflictError as error:
                found, expected = error.actual, error.expected
                fields = {"stream": error.stream, "expected": expected, "actual": found}
                return self._ended(operation, result="conflict", **fields)
            except ConditionError as error:
                return self._ended(operation, result="condition", match=error.position)
            except StorageError as error:
                tell(error)
                if commit.id is None:  # it can't be repeated
                    break
                if stop.exists() and until is None:
                    until = time.monotonic() + 10 * PATIENCE
                time.sleep(BETWEEN_TRIES)
            else:
                at, recorded = receipt.position, receipt.recorded_at.isoformat()
                return self._ended(operation, result="written", position=at, recorded=recorded)
        return self._ended(operation)

    def _read(self) -> None:
        operation = Operation(self._client, self._thread, time.monotonic(), 0, "read")
        try:
            position = self._store.head().position
        except StorageError as error:
            tell(error)
        else:
            self._ended(operation, position=position, is_fresh=self._is_fresh)

    def _save(self, stop: Path) -> None:
        """Count a checkpoint up, that all clients share. Where it is open it isn't known, for good."""
        operation = Operation(self._client, self._thread, time.monotonic(), 0, "saved", SAVED)
        try:
            with self._store.transaction() as transaction:
                kept = transaction.checkpoint(SAVED)
                position = 1 if kept is None else kept.position + 1
                transaction.save_checkpoint(Checkpoint(SAVED, position))
        except StorageError as error:
            tell(error)
        else:
            self._ended(operation, position=position)

    def _ended(self, operation: Operation, **fields: object) -> None:
        self._note(msgspec.structs.replace(operation, ended=time.monotonic(), **fields))


def tell(error: StorageError) -> None:
    """Say what passes; end the process where it won't."""
    sys.stdout.write(f"{time.monotonic():.3f} {type(error).__name__}: {error}\n")
    sys.stdout.flush()
    if isinstance(error, FOR_GOOD):
        traceback.print_exception(error)
        os._exit(1)


def end(failure: threading.ExceptHookArgs) -> None:
    """End the process with a thread that failed."""
    traceback.print_exception(failure.exc_value)
    os._exit(1)


def opened(url: str) -> Store:
    """The store, once the cluster lets it be opened."""
    while True:
        try:
            return open_store(url, events=[Step], busy_timeout=PATIENCE)
        except StorageError as error:
            tell(error)
        time.sleep(BETWEEN_TRIES)


def run(url: str, name: str, seed: str, folder: Path) -> None:
    with opened(url) as store, (folder / name).open("a", buffering=1) as noted:
        lock = threading.Lock()

        def note(operation: Operation) -> None:
            with lock:
                noted.write(msgspec.json.encode(operation).decode() + "\n")

        is_fresh = "consistency=fresh" in url
        threads = []
        for number in range(THREADS):
            thread = f"{name}.{number}"
            client = Client(store, name, thread, f"{seed}.{thread}", note, is_fresh=is_fresh)
            threads.append(threading.Thread(target=client.work, args=(folder / "stop",)))
        for one in threads:
            one.start()
        for one in threads:
            one.join()


if __name__ == "__main__":
    threading.excepthook = end
    url, name, seed, folder = sys.argv[1:]
    run(url, name, seed, Path(folder))
