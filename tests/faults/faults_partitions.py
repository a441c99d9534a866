"""Writes to a partitioned store until it is killed: python -m tests.faults.faults_partitions FOLDER.

Each commit that has returned is acknowledged on stdout, by its stream, version and position. Some
rest on other partitions: by a condition, a belief, or an id that another writer may use as well.
What they rest on is in their events.
"""

from __future__ import annotations

import contextlib
import random
import sys
from uuid import UUID

from everwhen import Commit, Condition, Query, RefusedError, UnknownEvent, Write, open_store
from everwhen.vocabulary import Receipt

STREAMS = [f"s-{number}" for number in range(12)]


def main(folder: str, seed: str) -> None:
    chance = random.Random(seed)
    with open_store(folder) as store:
        while True:
            stream = chance.choice(STREAMS)
            events = [UnknownEvent("T", {"n": n}) for n in range(chance.choice([1, 1, 2, 5]))]
            kind = chance.random()
            condition, commit_id = None, None
            writes = [Write(stream, events)]
            if kind < 0.15:
                after = store.head().position
                condition = Condition(Query().types("Rare"), after)
                writes = [Write(stream, [UnknownEvent("Rare", {"after": after})])]
            elif kind < 0.3:
                other = chance.choice(STREAMS)
                if other != stream:
                    version = store.version(other)
                    believed = UnknownEvent("Believed", {"stream": other, "version": version})
                    writes = [Write(stream, [believed]), Write(other, [], version)]
            elif kind < 0.5:
                commit_id = UUID(int=chance.randrange(1, 400))
            with contextlib.suppress(RefusedError):
                receipt = store.commit(Commit(writes, condition, commit_id))
                assert isinstance(receipt, Receipt)
                if not receipt.repeated:
                    line = f"{stream} {receipt.versions[stream]} {receipt.position}\n"
                    sys.stdout.write(line)
                    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
