"""The view `events`: what SQL users see is what the API says."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from everwhen import Commit, Event, NewEvent, Store, UnknownEvent, Write, open_store
from everwhen.testing import ManualClock
from everwhen.vocabulary import CommitMetadata

COLUMNS = [
    "position",
    "stream",
    "version",
    "type",
    "schema_version",
    "data",
    "tags",
    "recorded_at",
    "occurred_at",
    "commit_id",
    "metadata",
    "event_id",
    "extras",
]
PROGRAM = """
import json, sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
rows = database.execute(sys.argv[2])
print(json.dumps([[column[0] for column in rows.description], *rows]))
"""


class Placed(Event):
    tag_fields = ("player",)

    player: int
    note: str


@pytest.fixture
def store(tmp_path: Path) -> Store:
    clock = ManualClock(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    store = open_store(tmp_path / "viewed.db", events=[Placed], clock=clock)
    store.append("first", [Placed(1, "ü 'quoted' \"x\" \x00")])
    clock.advance(1.5)
    store.commit(
        Commit(
            [
                Write("a-1", [Placed(n, "many") for n in range(1_500)]),
                Write(
                    "b-1",
                    [
                        NewEvent(
                            event=UnknownEvent("Odd", {"deep": {"x": [1, None]}}, 3),
                            tags=("t", "it's"),
                            occurred_at=datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=1),
                            event_id="mine",
                            extras={"k": [1]},
                        ),
                        UnknownEvent("Empty", {}),
                    ],
                ),
            ],
            metadata=CommitMetadata(user_id="ann", extras={"x": 1}),
        )
    )
    return store


def rows(path: Path, sql: str) -> list[list[Any]]:
    """What another process sees with the standard library's SQLite."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), sql], capture_output=True, text=True, check=True
    )
    found: list[list[Any]] = json.loads(done.stdout)
    return found


def test_every_column_of_every_event(store: Store, tmp_path: Path) -> None:
    columns, *found = rows(tmp_path / "viewed.db", "SELECT * FROM events ORDER BY position")
    assert columns == COLUMNS
    events = list(store.read())
    assert len(found) == len(events) == 1_503
    for row, event in zip(found, events, strict=True):
        told = dict(zip(columns, row, strict=True))
        metadata = event.metadata
        assert told["position"] == event.position
        assert (told["stream"], told["version"]) == (event.stream, event.version)
        assert (told["type"], told["schema_version"]) == (event.type, event.schema_version)
        assert json.loads(told["data"]) == event.data
        assert tuple(json.loads(told["tags"])) == event.tags
        assert datetime.fromisoformat(told["recorded_at"]) == event.recorded_at
        assert told["commit_id"] == event.commit_id.hex
        assert (told["occurred_at"] is None) == (metadata.occurred_at is None)
        assert told["event_id"] in {None, event.event_id}
        commit = json.loads(told["metadata"] or "{}")
        assert commit.get("user_id") == metadata.user_id
        own = json.loads(told["extras"] or "{}")
        assert {**commit.get("extras", {}), **own} == metadata.extras
    odd = dict(zip(columns, found[-2], strict=True))
    assert (odd["event_id"], odd["tags"]) == ("mine", '["t","it\'s"]')
    assert odd["occurred_at"] == "2020-01-02T00:00:00Z"


def test_questions_that_people_ask(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "viewed.db"
    assert rows(path, "SELECT count(*) FROM events WHERE data ->> 'player' >= 1490")[1] == [10]
    assert rows(path, "SELECT stream, max(version) FROM events GROUP BY stream ORDER BY 1")[1:] == [
        ["a-1", 1_500],
        ["b-1", 2],
        ["first", 1],
    ]
    tagged = "SELECT e.position FROM events e, json_each(e.tags) t WHERE t.value = 'it''s'"
    assert rows(path, tagged)[1:] == [[1_502]]
    times = [row[0] for row in rows(path, "SELECT recorded_at FROM events ORDER BY position")[1:]]
    assert times == sorted(times), "times sort as text"


def test_the_view_is_there_inside_a_transaction(store: Store) -> None:
    with store.transaction() as transaction:
        assert transaction.execute("SELECT count(*) FROM events") == [(1_503,)]
