from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import open_store


def test_events_in_a_pipe_are_columns_that_stay(shell: Shell, shop: Path) -> None:
    done = shell("read", shop)
    assert (done.code, done.err) == (0, "")
    with open_store(shop, read_only=True) as store:
        expected = [
            [
                str(e.position),
                e.recorded_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                e.stream,
                str(e.version),
                e.type,
                e.json.decode(),
            ]
            for e in store.read()
        ]
    assert len(expected) == 5
    assert done.rows == expected
    assert "\x1b" not in done.out


def test_events_as_json_say_everything(shell: Shell, shop: Path) -> None:
    records = shell("read", shop, "--json").records
    assert [r["position"] for r in records] == [1, 2, 3, 4, 5]
    with open_store(shop, read_only=True) as store:
        for record, event in zip(records, store.read(), strict=True):
            metadata = event.metadata
            assert record["data"] == event.data
            assert record["tags"] == list(event.tags)
            assert record["event_id"] == event.event_id
            assert record["commit_id"] == str(metadata.commit_id)
            assert record["correlation_id"] == metadata.correlation_id
            assert record["schema_version"] == 1
            assert record["extras"] == {}
            assert record["occurred_at"] is record["user_id"] is record["causation_id"] is None


@pytest.mark.parametrize(
    ("filters", "positions"),
    [
        (["--stream", "game-1"], [1, 2, 4]),
        (["-s", "game-1", "-s", "player-7"], [1, 2, 4, 5]),
        (["--category", "player"], [5]),
        (["--type", "GameWon"], [4, 5]),
        (["-t", "GameWon", "-c", "game"], [4]),
        (["--tag", "player:7"], [1, 3]),
        (["--tag", "player:7", "--tag", "vip"], []),
        (["--stream", "game-1", "--from-version", "2"], [2, 4]),
        (["--stream", "game-1", "--to-version", "1"], [1]),
        (["--after", "3"], [4, 5]),
        (["--up-to", "2"], [1, 2]),
        (["--as-at", "now"], [1, 2, 3, 4, 5]),
        (["--as-at", "2013-05-01T00:00Z"], []),
        (["--as-of", "2013-05-01T00:00Z"], []),
        (["--backwards"], [5, 4, 3, 2, 1]),
        (["-r", "-n", "2"], [5, 4]),
        (["--limit", "0"], []),
    ],
)
def test_filters(shell: Shell, shop: Path, filters: list[str], positions: list[int]) -> None:
    done = shell("read", shop, *filters)
    assert done.code == 0
    assert [int(row[0]) for row in done.rows] == positions
    assert [r["position"] for r in shell("read", shop, "--json", *filters).records] == positions


def test_as_at_finds_the_moment_between_two_events(shell: Shell, shop: Path) -> None:
    moments = [row[1] for row in shell("read", shop).rows]
    done = shell("read", shop, "--as-at", moments[2])
    assert [row[0] for row in done.rows] == [
        str(i + 1) for i, m in enumerate(moments) if m <= moments[2]
    ]


def test_a_time_without_zone_is_local_and_said_so(shell: Shell, shop: Path) -> None:
    done = shell("read", shop, "--as-at", "2013-05-01")
    assert done.err == (
        "everwhen: '2013-05-01' names no time zone, so it is taken as local time: "
        "2013-05-01T00:00:00+02:00\n"
    )
    assert "+01:00" in shell("read", shop, "--as-at", "2013-01-01").err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as-at", "soon"], "time 'soon' isn't understood; write it as 2013-05-01"),
        (["--as-at", "17"], "a plain number is a position, not a time"),
        (["--after", "x"], "'--after'"),
        (["--limit", "-1"], "'--limit' / '-n'"),
        (["--nonsense"], "no such option: --nonsense"),
        (["--events", "nowhere:Types"], "no module 'nowhere'"),
        (["--events", "json"], "write it as module:name"),
        (["--events", "json:nothing"], "there is no 'nothing' in json"),
        (
            ["--events", "json:dumps"],
            "expected an EventTypes, an event class, or a list of event classes, got a function",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    shell: Shell, shop: Path, arguments: list[str], said: str
) -> None:
    done = shell("read", shop, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("everwhen: ")
    assert done.err.count("\n") == 1
    assert said in done.err


def test_own_event_types_upcast_what_is_read(shell: Shell, shop: Path) -> None:
    (shell.folder / "bets_by_currency.py").write_text(
        "from everwhen import Event, EventTypes; from everwhen.codec import Upcast\n"
        "class BetPlaced(Event):\n"
        "    schema_version = 2\n"
        "    player: int\n"
        "    amount: int\n"
        "    currency: str\n"
        "TYPES = EventTypes(BetPlaced, upcasts=[\n"
        "    Upcast('BetPlaced', 1, lambda old: {**old, 'currency': 'EUR'})])\n"
    )
    done = shell("read", shop, "--json", "-n", "1", "--events", "bets_by_currency:TYPES")
    assert done.records[0]["data"] == {"player": 7, "amount": 5, "currency": "EUR"}
    assert done.records[0]["schema_version"] == 2


def test_streams(shell: Shell, shop: Path) -> None:
    done = shell("streams", shop)
    assert done.code == 0
    assert [row[:3] for row in done.rows] == [
        ["game-1", "3", "4"],
        ["game-2", "1", "3"],
        ["player-7", "1", "5"],
    ]
    records = shell("streams", shop, "--category", "player", "--json").records
    assert [(r["stream"], r["category"], r["version"]) for r in records] == [
        ("player-7", "player", 1)
    ]
    assert shell("streams", shop, "-c", "nothing").out == ""


def test_data_in_a_terminal_can_not_reach_the_terminal(shell: Shell, shop: Path) -> None:
    done = shell.terminal("read", shop, "--stream", "game-1", NO_COLOR="1")
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "\\u001b[31mred" in done.out


def test_a_narrow_terminal_cuts_and_never_wraps(shell: Shell, shop: Path) -> None:
    for columns in (60, 80, 200):
        lines = shell.terminal("read", shop, columns=columns, NO_COLOR="1").out.splitlines()
        assert len(lines) == 6
        assert max(map(len, lines)) <= columns
        assert ("AGE" in lines[0]) is (columns == 200)
