"""64 tasks in 4 processes send conflicting commands to few aggregates: nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.faults.faults_commands import ACCOUNTS, OPENING, Account, Moved, account, decisions
from tests.patience import PATIENCE_SECONDS

from everwhen import Query, open_store
from everwhen.commands import command_of

PROCESSES = 4
COMMANDS = 240


def test_every_command_takes_effect_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.faults_commands", path, str(n), str(COMMANDS)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    said = []
    for process in running:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, err
        said.append(json.loads(out))
    with open_store(path, events=[Moved]) as store:
        events = list(store.read(Query()))
        commits = {event.commit_id for event in events}
        assert len(commits) == sum(one["wrote"] for one in said)
        answered = sum(one["wrote"] + one["repeated"] + one["refused"] for one in said)
        assert answered == PROCESSES * COMMANDS * 2
        assert max(one["attempts"] for one in said) <= 50
        # decided again, in the order in which they were written, each comes out the same
        states = [Account()] * ACCOUNTS
        for event in events:
            number = int(event.stream.partition("-")[2])
            recorded = command_of(event)
            assert recorded is not None
            command = decisions.restored(recorded)
            decision = decisions.for_command(command)
            if event.event.amount < 0:
                assert number == command.source
                both = (states[command.source], states[command.target])
                first, second = decision.events(command, both)
                assert [first.events, second.events] == [
                    [event.event],
                    [Moved(-event.event.amount)],
                ]
            states[number] = account.apply(states[number], [event.event])
        assert sum(state.balance for state in states) == OPENING * ACCOUNTS
        assert min(state.lowest for state in states) >= 0
        assert store.check() == []
