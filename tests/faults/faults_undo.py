"""A process that undoes and redoes: python -m tests.faults.faults_undo FILE PROCESS EVENTS.

Every process undoes the same events, one by one and in ranges, in an order of its own, and redoes
every third. It says as JSON the commits that it wrote itself.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from everwhen import Event, Undo, open_store
from everwhen.errors import UndoError
from everwhen.undo import Compensations, Positions, UndoTarget


class Moved(Event):
    amount: int


compensations = Compensations()
compensations.on(Moved)(lambda event: Moved(-event.amount))


def main(path: Path, process: int, events: int) -> None:
    chance = random.Random(process)
    targets: list[UndoTarget] = [*range(1, events + 1)]
    targets += [Positions(first, first + 4) for first in range(1, events, 5)]
    chance.shuffle(targets)
    wrote: list[str] = []
    with open_store(path, events=[Moved], durable=False) as store:
        undo = Undo(store, compensations)
        for number, target in enumerate(targets):
            do = undo.redo if number % 3 == 2 else undo.undo
            try:
                receipt = do(target)
            except UndoError:
                continue
            if not receipt.repeated:
                wrote.append(str(receipt.commit_id))
    sys.stdout.write(json.dumps(wrote))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
