"""A program that kills its own children: python -m tests.faults.faults_crash FOLDER KILLS SEED.

It imports everything and opens nothing, so a child is one fork away from working. A child first
judges the file that its killed predecessor left behind, then appends, and acknowledges each commit
through a pipe the moment it has returned. Exits with 1 and the findings on stderr.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from tests.faults.faults_ledger import Entry, count_up, faults_in, some_commit

from everwhen import Store, open_store

KILLS_PER_FILE = 12


class Ledger:
    """What children have acknowledged for one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits: set[str] = set()
        self.counted = 0
        self.judged = 0

    def take(self, line: str) -> None:
        kind, _, value = line.partition(" ")
        if kind == "commit":
            self.commits.update(value.split())
        elif kind == "count":
            self.counted = max(self.counted, int(value))
        elif kind == "judged":
            self.judged += 1
        elif kind == "fault":
            sys.exit(f"{self.path.name}: {value}")
        else:
            sys.exit(f"{self.path.name}: child said {line!r}")


def acknowledge(pipe: int, kind: str, value: object) -> None:
    os.write(pipe, f"{kind} {value}\n".encode())


def judge(store: Store, ledger: Ledger, pipe: int) -> None:
    for fault in faults_in(store, ledger.commits, ledger.counted)[:3]:
        acknowledge(pipe, "fault", fault)
    acknowledge(pipe, "judged", "")


def work(store: Store, pipe: int, name: str, rounds: int) -> None:
    """Append in every way there is, acknowledging each success."""
    chance = random.Random(name)
    for i in range(rounds):
        key = f"{name}.{i}"
        way = chance.random()
        if way < 0.15:
            acknowledge(pipe, "count", count_up(store))
        elif way < 0.3:
            keys = [f"{key}.{j}" for j in range(chance.randrange(2, 12))]
            store.commit_batch([some_commit(k, chance) for k in keys])
            acknowledge(pipe, "commit", " ".join(keys))
        else:
            store.commit(some_commit(key, chance))
            acknowledge(pipe, "commit", key)


def child(ledger: Ledger, pipe: int, name: str) -> None:
    """Judge, then work in several threads, close, open again, and so on until killed."""
    with open_store(ledger.path, events=[Entry]) as store:
        judge(store, ledger, pipe)
    for life in range(1_000):
        with open_store(ledger.path, events=[Entry]) as store:
            threads = [
                threading.Thread(target=work, args=(store, pipe, f"{name}.{life}.{t}", 12))
                for t in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def forked(ledger: Ledger, name: str, *, only_judge: bool = False) -> tuple[int, int]:
    """A child at work: its id and the pipe it speaks through."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    status = 1
    try:
        if only_judge:
            with open_store(ledger.path, events=[Entry]) as store:
                judge(store, ledger, writing)
        else:
            child(ledger, writing, name)
        status = 0
    except BaseException as error:  # noqa: BLE001  whatever it is, the parent has to hear of it
        with contextlib.suppress(OSError):
            acknowledge(writing, "fault", f"{type(error).__name__}: {error}".replace("\n", " "))
    finally:
        os._exit(status)


def heard(pipe: int, ledger: Ledger, words: int | None = None) -> None:
    """Take in what is said until the pipe is closed, or at least so many lines: they come whole."""
    said = bytearray()
    while words is None or said.count(b"\n") < words:
        data = os.read(pipe, 1 << 16)
        if not data:
            break
        said += data
    for line in said.decode().split("\n")[:-1]:
        ledger.take(line)


def kill_one(ledger: Ledger, name: str, chance: random.Random) -> None:
    """One child's life and sudden death: while it still opens the file, or after some commits."""
    pid, pipe = forked(ledger, name)
    if chance.random() < 0.8:
        heard(pipe, ledger, words=chance.randrange(1, 40))
    time.sleep(chance.uniform(0, 0.01))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    heard(pipe, ledger)
    os.close(pipe)


def main(folder: Path, kills: int, seed: str) -> None:
    gc.freeze()
    chance = random.Random(seed)
    commits = judged = done = 0
    while done < kills:
        ledger = Ledger(folder / f"crash-{done}.db")
        for _ in range(min(KILLS_PER_FILE, kills - done)):
            kill_one(ledger, f"{seed}.{done}", chance)
            done += 1
        pid, pipe = forked(ledger, "", only_judge=True)
        heard(pipe, ledger)
        os.close(pipe)
        os.waitpid(pid, 0)
        commits += len(ledger.commits) + ledger.counted
        judged += ledger.judged
        for left in folder.glob(f"{ledger.path.name}*"):
            left.unlink()
    print(f"{done} {judged} {commits}")  # noqa: T201  read by the test


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
