"""Every command takes a URL in the place of a file, and says the same of the same history."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from tests.cli.everwhen_shell import Outcome, Shell
from tests.cli.test_cli_travelling import CODE as TRAVELLED
from tests.nats_cluster import NatsCluster
from tests.postgres_server import PostgresServer

from everwhen import (
    ProjectionRunner,
    TableProjection,
    TimeMachine,
    UnknownEvent,
    documents,
    open_store,
)
from everwhen.testing import ManualClock
from everwhen.vocabulary import CommitMetadata

FOLD = "--fold trip:places --events trip:events"
CODE = f"""{TRAVELLED}
from everwhen.undo import Compensations

compensations = Compensations()
compensations.on(Moved)(lambda event: Moved(event.who, -event.by))
"""
UNDOING = "--compensations trip:compensations --events trip:events"
VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|\d{4}-\d\d-\d\d[T ][\d:.]+\S*|— .*|example.org/\w+\+.*"
)
"""Ids, times, signatures and keys."""


def travelled(location: str) -> None:
    """Five moves of two, a day each, the same wherever they are made; a read model and a branch."""
    clock = ManualClock()
    moves = TableProjection("moves", "CREATE TABLE {moves} (who TEXT, steps INTEGER)")
    moves.otherwise(
        lambda tables, event: tables.execute(
            "INSERT INTO {moves} VALUES (?, ?)", (event.event.data["who"], event.event.data["by"])
        )
    )
    with open_store(location, clock=clock) as store:
        for day, who in enumerate(("ada", "bob", "ada", "bob", "ada"), start=1):
            clock.set(datetime(2025, 1, day, 12, tzinfo=UTC))
            event = UnknownEvent("Moved", {"who": who, "by": day})
            by = CommitMetadata(user_id="eve" if day > 3 else None)
            store.append(f"walk-{who}", [event], metadata=by, commit_id=UUID(int=day))
        TimeMachine(store, documents).set_bookmark("lunch", 2)
        with ProjectionRunner(store, [moves]) as runner:
            runner.catch_up()
        with store.create_branch("what-if", 3) as branch:
            branch.append("walk-cy", [UnknownEvent("Moved", {"who": "cy", "by": 9})])


@pytest.fixture(params=["postgresql", "nats"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "nats":
        nats: NatsCluster = request.getfixturevalue("nats")
        url = nats.url(nats.new_name(), tmp_path / "replica" / "trip.db")
        travelled(url)
        yield url
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    with postgres.schema() as url:
        travelled(url)
        yield url


@pytest.fixture
def file(tmp_path: Path) -> str:
    travelled(str(tmp_path / "trip.db"))
    return str(tmp_path / "trip.db")


def told(done: Outcome, location: str) -> tuple[int, str, str]:
    out, err = (text.replace(location, "STORE") for text in (done.out, done.err))
    return done.code, VARYING.sub("…", out), VARYING.sub("…", err)


@pytest.mark.parametrize(
    "lines",
    [
        ["read STORE --json", "read STORE --stream walk-ada --branch what-if"],
        ["tail STORE --limit 1 -n 2"],
        ["streams STORE"],
        ["at STORE 3", "at STORE @lunch walk-ada", "at STORE 2025-01-03T12:00Z FOLD"],
        ["diff STORE 1 4 FOLD", "when STORE 'ada.x > 3' FOLD"],
        ["history STORE data.by walk-ada", "blame STORE state.data walk-ada"],
        ["replay STORE --from 2 -n 2 FOLD --json"],
        ["debug STORE FOLD -c 'goto 3' -c next -c back"],
        ["bookmark STORE tea 4", "at STORE @tea"],
        ["branch list STORE", "branch create STORE other --at 2", "read STORE --branch other"],
        ["branch rename STORE what-if why", "branch delete STORE why", "branch list STORE"],
        ["merge STORE what-if", "merge STORE what-if --apply", "streams STORE"],
        ["undo STORE 2 UNDOING", "undo STORE 2 --apply UNDOING", "streams STORE"],
        ["append STORE walk-dan Moved '{}' --json", "read STORE --json"],
        ["export STORE all.jsonl", "import copy.db all.jsonl", "read copy.db --json"],
        ["check STORE", "check STORE --deep"],
        ["projections STORE"],
        ["sql STORE 'SELECT stream, count(*) FROM events GROUP BY 1 ORDER BY 1'"],
        ["audit log STORE login web --user ada", "audit query STORE --action login"],
        ["sign STORE --log tiles --key-file key --new-key example.org/trip",
         "verify STORE --log tiles", "prove STORE 2 --log tiles -o proof"],
        ["tiers status STORE"],
    ],
    ids=lambda lines: lines[0].split()[0],
)  # fmt: skip
def test_it_says_of_a_url_what_it_says_of_a_file(
    shell: Shell,
    url: str,
    file: str,
    lines: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[list[tuple[int, str, str]]] = []
    for name, location in (("file", file), ("schema", url)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / name))
        (tmp_path / name / "trip.py").write_text(CODE)
        said.append([])
        for line in lines:
            words = shlex.split(line.replace("FOLD", FOLD).replace("UNDOING", UNDOING))
            words = [location if word == "STORE" else word for word in words]
            said[-1].append(told(shell(*words), location))
    assert said[0] == said[1]
    assert [code for code, _, _ in said[0]] == [0] * len(lines)


@pytest.mark.parametrize(
    "line", ["demo --keep URL", "backup FILE URL", "restore FILE URL", "sign URL", "backup URL x"]
)
def test_what_needs_a_file_says_so(shell: Shell, url: str, file: str, line: str) -> None:
    if line == "backup URL x" and url.startswith("nats:"):
        pytest.skip("this copies the replica, see tests/cli/test_cli_cluster.py")
    before = sorted(shell.folder.rglob("*"))
    done = shell(*line.replace("URL", url).replace("FILE", file).split())
    assert done.code in (1, 2)
    assert not done.out
    assert "file" in done.err
    assert sorted(shell.folder.rglob("*")) == before


def test_a_schema_that_is_not_there(shell: Shell, postgres: PostgresServer) -> None:
    with postgres.schema() as url:
        done = shell("read", url)
        assert (done.code, done.out) == (74, "")
        assert "there is no such log; check the schema's name" in done.err


def test_info(shell: Shell, url: str) -> None:
    told = shell("info", url, "--json").records[0]
    assert told["events"] == 5
