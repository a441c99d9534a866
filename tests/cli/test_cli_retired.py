"""Commands on a store of which the beginning was retired: they say so, and never call it damage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import Commit, UnknownEvent, Write, open_store
from everwhen.tiers._sync.retiring import retired, surveyed
from everwhen.vocabulary.contract import Seal, SegmentSize

START = datetime(2024, 1, 1, tzinfo=UTC)
SAID = "events up to position 20 were retired at "


@pytest.fixture
def shop(shell: Shell, tmp_path: Path) -> Path:
    """A signed store with an event an hour, of which the first 20 are retired."""
    path = tmp_path / "shop.db"
    with open_store(path) as store:
        for n in range(40):
            write = Write(f"acct-{n % 4}", [UnknownEvent("Paid", {"n": n})])
            store.commit(Commit([write], recorded_at=START + timedelta(hours=n)))
        store.kernel.backend.move(Seal(20, SegmentSize(slices=20, frame=4, frames=2)))
    assert shell("sign", path, "--new-key", "example.org/shop").code == 0
    with open_store(path) as store:
        retired(store, *surveyed(store, 20))
        store.append("acct-9", [UnknownEvent("Paid", {"n": 99})])
    return path


def test_verify_says_what_was_retired(shell: Shell, shop: Path) -> None:
    for signed in (False, True):
        found = shell("verify", shop, "--json")
        (report,) = found.records
        assert (found.code, report["sound"], report["fault"]) == (0, True, None)
        assert (report["retired"], report["retired_up_to"], report["retired_by"]) == (20, 20, 41)
        assert (report["verified"], report["commits"]) == (
            22 if signed else 20,
            42 if signed else 40,
        )
        assert report["retirement_signed"] is signed
        assert datetime.fromisoformat(report["retired_at"]) > START
        assert shell("sign", shop).code == 0
    refused = shell("prove", shop, 5)
    assert refused.code == 1
    assert "position 5 can't be proven: everything up to position 20 was retired" in refused.err
    assert shell("prove", shop, 21).code == 0


def test_verify_says_it_in_a_terminal(shell: Shell, shop: Path) -> None:
    shown = shell.terminal("verify", shop)
    text = " ".join(shown.out.split())
    assert "20 commits up to position 20 retired on " in text
    assert "the record at position 41 is not signed yet" in text


@pytest.mark.parametrize(
    "command",
    [
        ("read",),
        ("at", "now", "acct-0"),
        ("at", "2024-01-01T05:00Z"),
        ("diff", "2024-01-02T05:00Z", "now"),
        ("history", "data.n", "acct-0"),
        ("blame", "data.n", "acct-0"),
        ("replay", "acct-0"),
        ("when", "data.n > 50", "acct-0"),
        ("export", "out.jsonl"),
        ("branch", "create", "early", "--at", "10"),
        ("bookmark", "start", "2024-01-01T05:00Z"),
        ("debug", "--command", "step"),
    ],
)
def test_what_needs_it_says_that_it_is_gone(
    shell: Shell, shop: Path, command: tuple[str, ...]
) -> None:
    words = 2 if command[0] == "branch" else 1
    found = shell(*command[:words], shop, *command[words:])
    assert (found.code, found.out) == (1, "")
    assert SAID in found.err
    assert "with --after 20 or --skip-retired" in found.err


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (("read", "--skip-retired"), 22),
        (("read", "--after", "20"), 22),
        (("read", "--backwards", "--limit", "22"), 22),
        (("tail", "--last", "50", "--limit", "22"), 22),
        (("streams",), 6),
        (("export", "-", "--skip-retired", "--format", "jsonl"), 22),
        (("history", "data.n", "acct-9"), 1),
        (("blame", "data.n", "acct-9"), 1),
        (("replay", "acct-9"), 1),
        (("check",), 0),
        (("check", "--deep"), 0),
        (("audit", "query"), 0),
        (("audit", "export", "-"), 0),
        (("projections",), 0),
    ],
)
def test_what_does_without_it_works(
    shell: Shell, shop: Path, command: tuple[str, ...], lines: int
) -> None:
    words = 2 if command[0] == "audit" else 1
    found = shell(*command[:words], shop, *command[words:])
    assert (found.code, found.err) == (0, "")
    assert len(found.out.splitlines()) == lines


def test_info_counts_what_is_left(shell: Shell, shop: Path) -> None:
    fields = shell("info", shop).fields
    assert (fields["retired"], fields["events"], fields["position"]) == ("20", "22", "42")
    assert fields["first_recorded_at"] == "2024-01-01T20:00:00.000000Z"
    assert "up to position 20" in shell.terminal("info", shop).out


def test_a_stream_that_began_later_has_its_state(shell: Shell, shop: Path) -> None:
    assert shell("at", shop, "now", "acct-9").fields["data.n"] == "99"
    none = shell("at", shop, "30", "acct-9")
    assert (none.code, "its first one is at position 42" in none.err) == (1, True)


def test_proven_reads_begin_after_it(shell: Shell, shop: Path) -> None:
    found = shell("read", shop, "--proven", "--skip-retired")
    assert (found.code, len(found.rows)) == (0, 20)
    assert SAID in shell("read", shop, "--proven").err
