"""Several processes undo and redo the same events at once: undone and redone in turn, each once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

from tests.faults.faults_undo import Moved
from tests.patience import PATIENCE_SECONDS

from everwhen import Fold, open_store

PROCESSES = 4
EVENTS = 40
NAMED = re.compile(r"(undoes|redoes):(.*)")


def test_an_event_is_undone_and_redone_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    with open_store(path, events=[Moved]) as store:
        for number in range(1, EVENTS + 1):
            store.append(f"account-{number % 3}", [Moved(number)])
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.faults_undo", path, str(n), str(EVENTS)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    wrote: list[str] = []
    for process in running:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, err
        wrote += json.loads(out)
    total: Fold[int] = Fold("total", int)
    total.on(Moved)(lambda state, event: state + event.amount)
    with open_store(path, events=[Moved]) as store:
        written = list(store.read())
        commits = {event.commit_id for event in written[EVENTS:]}
        assert commits == {UUID(name) for name in wrote}
        assert len(wrote) == len(commits), "each commit was written by one of them"
        amounts = {f"{event.commit_id}/0": event.event.amount for event in written[:EVENTS]}
        undone: set[str] = set()
        for event in written[EVENTS:]:
            (match,) = filter(None, map(NAMED.fullmatch, event.tags))
            ref = match[2]
            if match[1] == "undoes":
                assert ref not in undone
                undone.add(ref)
            else:
                undone.remove(ref)
        expected = sum(amount for ref, amount in amounts.items() if ref not in undone)
        assert store.fold(total) == expected
        assert store.check() == []
