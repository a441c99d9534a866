"""Statements of one's own, on SQLite and on PostgreSQL: the same code gives the same answers."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import UUID

import pytest

from everwhen import Commit, Query, Store, UnknownEvent, Write, open_store
from everwhen.errors import StatementError
from everwhen.exchange import CloudEvents, copy_store, export_events, import_archive, import_events
from everwhen.system.object_storage import object_url
from everwhen.vocabulary.contract import Archive, Seal, StoredSlice


def test_a_statement_that_fails_takes_nothing_else_with_it(location: str) -> None:
    with open_store(location) as store, store.transaction() as transaction:
        transaction.execute("CREATE TABLE noted (n INTEGER PRIMARY KEY, said TEXT)")
        transaction.execute("INSERT INTO noted VALUES (?, ?)", (1, "100 % ? :no 'quoted'"))
        for wrong in ("INSERT INTO noted VALUES (1, 'twice')", "SELECT nothing", "NO SQL"):
            with pytest.raises(StatementError, match="fix it"):
                transaction.execute(wrong)
        found = transaction.execute(
            "SELECT said FROM noted WHERE n = :n AND '%:x?' <> ''", {"n": 1}
        )
        assert found == [("100 % ? :no 'quoted'",)]


def slices_of(store: Store) -> list[StoredSlice]:
    page = store.kernel.backend.read(Query(), 1_000)
    assert page.end
    return list(page.slices)


def test_a_commit_that_takes_turns_comes_back_by_every_way(location: str, tmp_path: Path) -> None:
    noted = [UnknownEvent("Noted", {"n": n}) for n in range(3)]
    with open_store("memory:") as first, open_store(location) as here:
        for number, turns in enumerate(("aba", "aab", "abbac", "aa"), start=1):
            writes = [Write(stream, noted[: 1 + at % 3]) for at, stream in enumerate(turns)]
            first.commit(Commit(writes, id=UUID(int=number)))
        head = first.head().position
        lines = io.BytesIO()
        export_events(first, lines, CloudEvents())
        for store, written in ((here, head), (here, 0), (first, 0)):
            report = import_events(store, io.BytesIO(lines.getvalue()), CloudEvents())
            assert (report.written, report.written + report.repeated) == (written, head)
        assert slices_of(here) == slices_of(first)
        with open_store(tmp_path / "copy.db") as copy:
            copy_store(here, copy)
            assert slices_of(copy) == slices_of(first)
        here.kernel.backend.move(Seal(head))
        here.kernel.backend.move(Archive(head, object_url(tmp_path / "archive")))
        with open_store(tmp_path / "again.db") as again:
            import_archive(again, tmp_path / "archive")
            assert slices_of(again) == slices_of(first)
            assert again.check() == []
