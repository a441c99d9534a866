"""projections: how far read models have come, and what went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    ProjectionRunner,
    RecordedEvent,
    TableProjection,
    Tables,
    open_store,
)
from everwhen.errors import ProjectionError
from everwhen.projections import OnError
from everwhen.reactions import Reaction, ReactionRunner


class Sold(Event):
    pieces: int


def sales(then: str) -> TableProjection:
    name = f"sales_{then}"
    projection = TableProjection(
        name,
        f"CREATE TABLE {{{name}}} (pieces INTEGER)",
        on_error=OnError(then, retries=0),  # type: ignore[arg-type]
    )

    @projection.on(Sold)
    def add(tables: Tables, sold: RecordedEvent[Sold]) -> None:
        tables.execute(f"INSERT INTO {{{name}}} VALUES (?)", [10 // sold.event.pieces])

    return projection


@pytest.fixture
def sold(tmp_path: Path) -> Path:
    """A store whose projections have met an event that they fail on."""
    with open_store(tmp_path / "sold.db", events=[Sold]) as store:
        store.append("till-1", [Sold(1), Sold(0), Sold(2)])
        store.append("till-2", [Sold(5)])
        for then in ("skip", "park", "halt"):
            runner = ProjectionRunner(store, [sales(then)])
            try:
                runner.catch_up()
            except ProjectionError:
                assert then == "halt"
            runner.close()
        reactions = ReactionRunner(CommandBus(store, Decisions()), [Reaction("mails")])
        reactions.catch_up()
        reactions.close()
    return tmp_path / "sold.db"


def test_where_they_stand(shell: Shell, sold: Path) -> None:
    listed = shell("projections", sold)
    assert listed.code == 1, listed.err
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in listed.out.splitlines())}
    assert rows["sales_skip"][:6] == ["projection", "1", "1", "live", "4", "0"]
    assert rows["sales_skip"][7:9] == ["0", "1"]
    assert rows["sales_park"][7:9] == ["2", "0"]
    assert rows["sales_halt"][3:6] == ["halted", "1", "3"]
    assert "ZeroDivisionError" in rows["sales_halt"][10]
    assert rows["mails"][:5] == ["reaction", "1", "1", "live", "4"]


def test_as_json(shell: Shell, sold: Path) -> None:
    found = [json.loads(line) for line in shell("projections", sold, "--json").out.splitlines()]
    assert {(one["name"], one["state"], one["lag"]) for one in found} == {
        ("sales_skip", "live", 0),
        ("sales_park", "live", 0),
        ("sales_halt", "halted", 3),
        ("mails", "live", 0),
    }


def test_what_is_parked(shell: Shell, sold: Path) -> None:
    listed = shell("projections", sold, "--parked", "sales_park")
    first, second = (line.split("\t") for line in listed.out.splitlines())
    assert first[:3] == ["2", "till-1", "Sold"]
    assert "ZeroDivisionError" in first[4]
    assert (second[0], second[4]) == ("3", "")
    assert shell("projections", sold, "--parked", "sales_skip").out == ""
    unknown = shell("projections", sold, "--parked", "nothing")
    assert unknown.code == 1
    assert "there is no projection 'nothing'" in unknown.err


def test_beyond_the_end_is_not_up_to_date(shell: Shell, sold: Path) -> None:
    """As after the loss of the newest events: nothing that follows may look as if all were well."""
    with open_store(sold, events=[Sold]) as store:
        (known,) = [one for one in store.checkpoints() if "sales_skip@" in one.name]
        with store.transaction() as transaction:
            moved = msgspec.structs.replace(known, position=9)
            transaction.save_checkpoint(moved, local=True)
            transaction.delete_checkpoint("projection/sales_halt@1.1", local=True)
    listed = shell("projections", sold)
    assert listed.code == 1, listed.err
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in listed.out.splitlines())}
    assert rows["sales_skip"][3:6] == ["beyond", "9", ""]
    assert "position 9 is after the end of the log, 4" in rows["sales_skip"][10]
    found = [json.loads(line) for line in shell("projections", sold, "--json").out.splitlines()]
    assert ("sales_skip", "beyond", None) in {(o["name"], o["state"], o["lag"]) for o in found}
    shown = shell("projections", sold, FORCE_COLOR="1", COLUMNS="200").out
    assert "beyond the end" in shown
    tail = shell("tail", sold, "--after", 9)
    assert tail.code == 1
    assert "position 9 is after the end of the log, 4" in tail.err


def test_for_people(shell: Shell, sold: Path, tmp_path: Path) -> None:
    shown = shell("projections", sold, FORCE_COLOR="1", COLUMNS="160").out
    assert "NAME" in shown
    assert "halted" in shown
    parked = shell("projections", sold, "--parked", "sales_park", FORCE_COLOR="1", COLUMNS="120")
    assert "waits for an earlier" in parked.out
    with open_store(tmp_path / "empty.db"):
        pass
    nothing = shell("projections", tmp_path / "empty.db", FORCE_COLOR="1")
    assert "There are no projections" in nothing.out
