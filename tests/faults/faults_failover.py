"""A process beside a pair of servers: python -m tests.faults.faults_failover ROLE URL NAME FOLDER.

A ``writer`` appends, repeats by commit id what it isn't told the outcome of, and notes each commit
that was acknowledged in the file NAME. A ``follower`` notes each event that it sees. Both go on
until there is a file ``stop`` in the folder.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

from tests.faults.faults_ledger import Entry, entries

from everwhen import Commit, Query, Write, open_store
from everwhen.errors import StorageError


def write(url: str, name: str, folder: Path) -> None:
    with open_store(url, events=[Entry]) as store, (folder / name).open("w", buffering=1) as noted:
        for number in count():
            key = f"{name}.{number}"
            writes = [
                Write(f"{name}-{number % 5}", entries(key, 2)[:1]),
                Write(f"shared-{number % 3}", entries(key, 2)[1:]),
            ]
            commit = Commit(writes, id=uuid4())
            tries = 0
            while not (folder / "stop").exists():
                try:
                    receipt = store.commit(commit)
                except StorageError:
                    tries += 1
                    time.sleep(0.02)
                else:
                    noted.write(f"{key} {commit.id} {receipt.position} {tries}\n")
                    break
            else:
                return


def follow(url: str, name: str, folder: Path) -> None:
    position = 0
    with open_store(url, events=[Entry]) as store, (folder / name).open("w", buffering=1) as noted:
        while True:
            stopping = (folder / "stop").exists()
            try:
                for seen in store.read(Query().after(position)):
                    position = seen.position
                    commit_id: UUID = seen.metadata.commit_id
                    noted.write(f"{position} {commit_id} {seen.recorded_at.isoformat()}\n")
            except StorageError:
                continue
            if stopping:
                return
            time.sleep(0.01)


if __name__ == "__main__":
    role, url, name, folder = sys.argv[1:]
    {"writer": write, "follower": follow}[role](url, name, Path(folder))
