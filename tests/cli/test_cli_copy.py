"""``copy``: a store moves from a file to PostgreSQL and back, as people do it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import PROGRAM, Shell, environment
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import PostgresServer

from everwhen import UnknownEvent, open_store


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """A log in PostgreSQL, reached with a password."""
    with postgres.schema() as location:
        yield location.replace("postgres@", "postgres:s3cret@")


def test_there_and_back(shell: Shell, shop: Path, url: str) -> None:
    with open_store(shop) as store:
        store.create_branch("what-if", at=2)
        with store.branch("what-if") as branch:
            branch.append("game-3", [UnknownEvent("Other", {})] * 2)
    done = shell("copy", shop, url)
    assert (done.code, done.err) == (0, "")
    assert list(done.fields) == [
        "events", "written", "repeated", "newer", "branches", "position", "recorded_at",
    ]  # fmt: skip
    assert [done.fields[name] for name in ("events", "written", "branches", "position")] == [
        "7", "7", "1", "5",
    ]  # fmt: skip
    assert shell("copy", url, "back.db").code == 0
    for branch_words in ((), ("--branch", "what-if")):
        texts = {
            shell("export", place, "-", "-f", "jsonl", *branch_words).out
            for place in (shop, url, "back.db")
        }
        assert len(texts) == 1
        assert shell("check", url).code == shell("check", "back.db").code == 0
    again = shell("copy", shop, url, "--json")
    assert (again.records[0]["written"], again.records[0]["repeated"]) == (0, 7)


def test_people_are_told_in_words(shell: Shell, shop: Path, url: str) -> None:
    seen = shell.terminal("copy", shop, url, columns=100)
    assert "Copied 5 events: up to position 5. All are the same." in seen.out
    assert "s3cret" not in seen.out


def test_what_can_not_be_copied_is_said(shell: Shell, shop: Path, url: str) -> None:
    assert shell("append", "--create", "other.db", "a", "B", "{}").code == 0
    assert shell("append", url, "a", "B", "{}").code == 0
    wrong = url.replace("postgresql:", "postgre:")
    for source, target, code, said in (
        ("none.db", "new.db", 66, "none.db: there is no such store"),
        (shop, shop, 2, "the store needs this file"),
        (shop, f"{shop}-wal", 2, "the store needs this file"),
        (url, url, 2, "is the store that is to be copied"),
        (url, url.replace("127.0.0.1", "localhost"), 2, "is the store that is to be copied"),
        (shop, "other.db", 1, "has other history than"),
        (shop, url, 1, "from position 1 on"),
        (shop, "memory:", 2, "name a file"),
        (shop, "no/such/folder/new.db", 74, "new.db"),
        (shop, wrong, 74, "no backend opens 'postgre'"),
        (wrong, "new.db", 74, "no backend opens 'postgre'"),
        (url + "&port=no", "new.db", 74, "port"),
        (shop, url.replace("/postgres?", "/nowhere?"), 74, "nowhere"),
    ):
        done = shell("copy", source, target)
        assert (done.code, done.out) == (code, ""), done.err
        assert said in done.err
        assert "s3cret" not in done.err
        assert "Traceback" not in done.err
    assert not (shell.folder / "new.db").exists()
    assert shell("info", "other.db").fields["events"] == "1"


def test_one_that_is_killed_goes_on(shell: Shell, url: str) -> None:
    with open_store(shell.folder / "big.db", durable=False) as store:
        for number in range(40):
            store.append("s-1", [UnknownEvent("Counted", {"n": number})] * 1_000)
    with open_store(url) as copy:
        running = subprocess.Popen(
            [*PROGRAM, "copy", "big.db", url], cwd=shell.folder, env=environment()
        )
        until = time.monotonic() + PATIENCE_SECONDS
        while copy.head().position == 0:
            assert time.monotonic() < until
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        running.wait(PATIENCE_SECONDS)
    done = shell("copy", "big.db", url)
    assert (done.code, done.fields["events"]) == (0, "40000")
    assert int(done.fields["repeated"]) > 0
