"""A group of commits in one call of PostgreSQL: what the call says, and when it is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.faults_ledger import Entry, entries
from tests.postgres_server import PostgresServer

from everwhen import EXISTS, NO_STREAM, Commit, Condition, Query, Write, open_store
from everwhen.backends.index_terms import BLOCK, block_of
from everwhen.backends.postgres import writer
from everwhen.backends.postgres.append_call import GroupMarks
from everwhen.backends.postgres.binary_arrays import Bigints, Byteas, Texts, Uuids, register
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.backends.postgres.schema import VERSION
from everwhen.backends.postgres.statements import in_schema, statements
from everwhen.backends.postgres.writer import CommitWriter
from everwhen.errors import BatchError, ConditionError, ConflictError, ReadOnlyError
from everwhen.vocabulary.contract import EncodedSlice


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.schema() as found:
        yield found


@pytest.fixture
def one_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written with the lock held over a round trip."""

    def held(*_: object) -> NoReturn:
        raise AssertionError("the lock would be held over a round trip")

    monkeypatch.setattr(CommitWriter, "write", held)


@pytest.mark.usefixtures("one_call_only")
def test_one_call_is_enough_where_nobody_is_in_the_way(url: str) -> None:
    one, other = (open_store(url, events=[Entry]) for _ in range(2))
    with one, other:
        one.append("a-1", entries("k0", 2), expected=NO_STREAM)
        other.append("a-2", entries("k1", 1), expected=NO_STREAM)
        receipt = one.append("a-1", entries("k2", 1), expected=2)
        assert (receipt.position, receipt.versions) == (4, {"a-1": 3})
        other.append("a-1", entries("k3", 1), expected=EXISTS)
        for query, after in [
            (Query().tags("commit:k0"), 2),
            (Query().tags("commit:k0", "commit:k3"), 2),
            (Query().tags("commit:none"), 0),
            (Query().stream("a-2"), 3),
            (Query().types("Other"), 0),
            (Query().category("b"), 0),
            (Query().types(Entry), one.head().position),
            (Query(), one.head().position),
        ]:
            other.append("c-1", entries("k0", 1), condition=Condition(query, after))
            with other.transaction() as transaction:  # all but the first of these events go again
                transaction.execute("DELETE FROM slices WHERE position > 5")
                transaction.execute("DELETE FROM marks WHERE position > 5 AND position < 256")
        batch = [
            Commit([Write("d-1", entries("k4", 2), NO_STREAM)]),
            Commit([Write("d-1", entries("k5", 1), 2), Write("a-1", entries("k5", 1), 4)]),
            Commit([Write("d-1", entries("k6", 1), EXISTS)], Condition(Query().stream("a-2"), 3)),
        ]
        receipts = other.commit_batch(batch)
        assert [one.position for one in receipts] == [7, 9, 10]
        assert receipts[1].versions == {"d-1": 3, "a-1": 5}
        assert other.version("d-1") == 4


def test_what_may_not_hold_is_judged_under_the_lock(url: str) -> None:
    with open_store(url, events=[Entry]) as store:
        store.append("a-1", entries("k0", 2))
        store.append("a-2", entries("k1", 2))
        with pytest.raises(ConflictError, match="a-1"):
            store.append("a-1", entries("k2", 1), expected=1)
        with pytest.raises(ConditionError):
            store.append("b", entries("k2", 1), condition=Condition(Query().category("a"), 3))
        # a type's mark is of 256 positions, and says of these only that something may be there
        store.append("b", entries("k2", 1), condition=Condition(Query().types("Entry"), 4))
        store.append("b", entries("k3", 1), condition=Condition(Query().types("Other"), 1))
        query = Query().stream("b").types("Entry")
        with pytest.raises(BatchError) as refused:
            store.commit_batch(
                [
                    Commit([Write("b", entries("k4", 1))]),
                    Commit([Write("c", entries("k5", 1))], Condition(query, 6)),
                    Commit([Write("c", entries("k6", 1))], Condition(query, 7)),
                ]
            )
        first, second, third = refused.value.outcomes
        assert isinstance(second, ConditionError)
        assert (first.position, third.position) == (7, 8)  # type: ignore[union-attr]
        assert store.check() == []


def test_an_id_in_a_group_twice_is_written_once(url: str) -> None:
    commit = Commit([Write("a", entries("k", 2))], id=UUID(int=1))
    with open_store(url, events=[Entry]) as store:
        first, again = store.commit_batch([commit, commit])
        assert (first.position, again.position, again.repeated) == (2, 2, True)
        assert store.commit(commit).repeated
        assert store.head().position == 2


def test_what_is_judged_under_the_lock_is_written_in_pieces(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_BYTES_AT_ONCE", 200)
    with open_store(url, events=[Entry]) as store:
        store.append("a-1", entries("k0", 1))
        twice = Commit([Write("a-1", entries("k1", 2))], id=UUID(int=1))
        shared = [Write(f"a-{number % 3}", entries("k2", number)) for number in range(1, 7)]
        store.commit_batch([twice, Commit(shared), twice])
        assert store.check() == []
        assert [store.version(f"a-{number}") for number in range(3)] == [9, 8, 7]
        assert store.head().position == 24
        assert len(list(store.read(Query().tags("commit:k2")))) == 21


def test_the_session_is_kept(url: str) -> None:
    engine = PostgresEngine(url)
    sessions = set()
    for _ in range(3):
        assert engine.write([]) == []
        with engine.transaction() as transaction:
            sessions.update(transaction.execute("SELECT pg_backend_pid()"))
    engine.close()
    assert len(sessions) == 1


def test_an_older_log_gets_what_is_new(postgres: PostgresServer, url: str) -> None:
    schema = url.rpartition("=")[2]
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE SCHEMA {schema}")
        for statement in statements("schema", schema).values():
            session.execute(statement)
        session.execute(f"""
            CREATE ROLE w{schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO w{schema};
            GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {schema} TO w{schema};
        """)
        theirs = url.replace("postgres@", f"w{schema}@")
        with pytest.raises(ReadOnlyError, match=r"of format 1, .* as the role that owns them"):
            open_store(theirs)
        with pytest.raises(ReadOnlyError, match="open it once for writing"):
            open_store(theirs, read_only=True)
        with open_store(url, events=[Entry]) as store:
            store.append("a", entries("k", 1))
        with open_store(theirs, events=[Entry]) as store:
            assert store.append("a", entries("l", 1)).position == 2
        version = session.execute(in_schema("SELECT version FROM log.meta", schema)).fetchone()
        assert version == (VERSION,)
        session.execute(f"DROP OWNED BY w{schema}; DROP ROLE w{schema}")


@given(st.lists(st.integers(1, 400), min_size=1), st.integers(0, 2 * BLOCK))
def test_some_positions_tell_of_all_blocks(counts: list[int], head: int) -> None:
    marks, position, wanted = GroupMarks(), 0, set()
    for count in counts:
        position += count
        marks.add("a-1", EncodedSlice("a-1", count, b"[]", (), ()), position)
        wanted.add(block_of(head + position))
    told = [at for _, at, _ in marks.marks()]
    assert {block_of(head + at) for at in told} == wanted
    assert len(told) <= 2 * len(wanted) + 2


def test_packed_arrays_are_read_as_what_they_are(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url("postgres")) as session:
        register(session)
        sql = "SELECT %b, %b, %b, %b"
        ids = [UUID(int=1), UUID(int=(1 << 128) - 1)]
        given = (
            Bigints.of([0, -1, (1 << 63) - 1, -(1 << 63)]),
            Texts.of(["", "a", "é\u2028\U0001f600"]),
            Byteas.of([b"", None, b"\x00\xff"]),
            Uuids.of([one.bytes for one in ids]),
        )
        assert session.execute(sql, given, binary=True).fetchone() == (
            [0, -1, (1 << 63) - 1, -(1 << 63)],
            ["", "a", "é\u2028\U0001f600"],
            [b"", None, b"\x00\xff"],
            ids,
        )
        empty = (Bigints.of([]), Texts.of([]), Byteas.of([]), Uuids.of([]))
        assert session.execute(sql, empty, binary=True).fetchone() == ([], [], [], [])
