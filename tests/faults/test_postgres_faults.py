"""PostgreSQL that is killed, warns, or was left behind; and what is said of how one gets in."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import psycopg
import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import PostgresServer, postgres_server

from everwhen import Commit, Query, Write, open_store
from everwhen.backends.engine import EngineTransaction
from everwhen.backends.postgres.address import Address
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.backends.postgres.user_statements import translated_parameters
from everwhen.errors import (
    BusyError,
    DeclarationError,
    InlineError,
    NewerStoreError,
    NotAStoreError,
    ReadOnlyError,
    StatementError,
    StorageError,
)
from everwhen.vocabulary import Checkpoint, Receipt, Snapshot
from everwhen.vocabulary.contract import EncodedCommit, EncodedSlice


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server(fsync="on", full_page_writes="on") as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    with server.schema() as found:
        yield found


def commit(number: int) -> Commit:
    return Commit([Write(f"a-{number % 7}", entries(f"k{number}", 2))], id=UUID(int=number + 1))


def encoded(number: int) -> EncodedCommit:
    """The same commit for an engine, but for its events."""
    body = f'[["Entry",1,{{"commit":"k{number}"}},["commit:k{number}"]]]'.encode()
    two = b"[" + b",".join([body[1:-1]] * 2) + b"]"
    part = EncodedSlice(f"a-{number % 7}", 2, two, ("Entry",), (f"commit:k{number}",))
    return EncodedCommit(UUID(int=number + 1).bytes, (part,), ())


ENDING = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'everwhen'
"""


def kill(server: PostgresServer) -> None:
    server.kill()
    server.start()


def end_sessions(server: PostgresServer) -> None:
    server.execute(ENDING)


@pytest.mark.parametrize("harm", [kill, end_sessions])
def test_what_was_acknowledged_outlives_the_server(
    server: PostgresServer, url: str, harm: Callable[[PostgresServer], None]
) -> None:
    """It is killed while several write; each repeats what it wasn't told of, and it is there once."""
    acknowledged: list[int] = []
    stopping = threading.Event()
    all_open = threading.Barrier(4, timeout=PATIENCE_SECONDS)  # none is opened while it is down

    def write(first: int) -> None:
        with open_store(url, events=[Entry]) as store:
            all_open.wait()
            for number in range(first, first + 100_000, 4):
                while not stopping.is_set():
                    try:
                        store.commit(commit(number))
                    except StorageError:
                        continue
                    acknowledged.append(number)
                    break
                else:
                    return

    with open_store(url, events=[Entry]):
        writers = [threading.Thread(target=write, args=(first,)) for first in range(4)]
        for writer in writers:
            writer.start()
        for turn in range(3):
            while len(acknowledged) < 60 * (turn + 1):
                stopping.wait(0.01)
            harm(server)
        while len(acknowledged) < 240:
            stopping.wait(0.01)
        stopping.set()
        for writer in writers:
            writer.join()
    with open_store(url, events=[Entry]) as store:
        assert store.check() == []
        found = [event.event.commit for event in store.read() if event.event.index == 0]
        assert len(found) == len(set(found))
        assert set(found) >= {f"k{number}" for number in acknowledged}
        assert all(store.commit(commit(number)).repeated for number in acknowledged)


def test_a_warning_leaves_the_outcome_open(url: str) -> None:
    """As where the server stops waiting for a standby, and tells that as a success."""
    with open_store(url, events=[Entry]) as store:
        with psycopg.connect(url.partition("?")[0], autocommit=True) as session:
            schema = url.rpartition("=")[2]
            session.execute(f"""
                CREATE FUNCTION {schema}.warn() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE WARNING 'canceling wait for synchronous replication'; RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER warning AFTER INSERT ON {schema}.slices
                DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION {schema}.warn()
            """)
        with pytest.raises(StorageError, match="the server warns"):
            store.commit(commit(1))
        assert store.commit(commit(1)).repeated


def test_a_primary_of_an_older_timeline_is_refused(url: str) -> None:
    """Somebody promoted a standby, and the old primary still runs."""
    engine = PostgresEngine(url)
    engine._sessions._timeline = "00000007"
    with pytest.raises(StorageError, match="timeline 00000001, and the store was on 00000007"):
        engine.write([])
    engine.close()


def test_a_lost_session_is_replaced(server: PostgresServer, url: str) -> None:
    with open_store(url, events=[Entry]) as store:
        store.append("a", entries("k", 1))
        end_sessions(server)
        with store.transaction() as transaction:
            assert transaction.checkpoint("c") is None
        assert store.head().position == 1
        for call in (
            store.check,
            lambda: store.kernel.backend.view(lambda view: view.checkpoints("")),
        ):
            end_sessions(server)
            assert call() == []
        assert store.append("a", entries("l", 1)).position == 2


def test_settings_of_the_role_are_not_the_logs(server: PostgresServer, url: str) -> None:
    given = (
        "default_transaction_isolation=serializable",
        "synchronous_commit=off",
        "client_min_messages=error",
    )
    options = "%20".join(f"-c%20{one.replace('=', '%3D')}" for one in given)
    engine = PostgresEngine(f"{url}&options={options}")
    with engine.transaction() as transaction:
        asked = ("transaction_isolation", "synchronous_commit", "client_min_messages")
        found = [transaction.execute(f"SHOW {name}") for name in asked]
    assert found == [[("read committed",)], [("on",)], [("warning",)]]
    engine.close()


def test_what_failed_in_a_transaction_fails_it(server: PostgresServer, url: str) -> None:
    """Also where somebody handled that: the server keeps nothing of it, and says nothing."""
    engine = PostgresEngine(url, busy_timeout=0.2)

    def swallow(transaction: EngineTransaction) -> None:
        with contextlib.suppress(BusyError):
            transaction.checkpoint("locked")

    other = PostgresEngine(url)
    with other.transaction() as holding:
        holding.checkpoint("locked")
        with pytest.raises(StorageError, match="nothing of it is kept"):
            engine.transact(swallow)
        engine.inline = [swallow]
        with pytest.raises(StorageError, match="nothing of it is kept"):
            engine.write([encoded(1)])
    assert engine.write([encoded(1)])[0].position == 2  # type: ignore[union-attr]
    other.close()
    engine.close()


def test_one_commit_of_a_group_fails_for_itself(url: str) -> None:
    """Its neighbours are written, and told so."""
    engine = PostgresEngine(url)
    lying = msgspec.structs.replace(encoded(1), is_fresh=True)
    assert isinstance(engine.write([lying])[0], Receipt)
    first, again, last = engine.write([encoded(2), lying, encoded(3)])
    assert isinstance(first, Receipt)
    assert isinstance(again, Receipt)
    assert isinstance(last, Receipt)
    assert (first.position, again.position, again.repeated, last.position) == (4, 2, True, 6)

    def refuse(transaction: EngineTransaction) -> None:
        if transaction.read(Query().tags("commit:k5"), 1).slices:
            raise InlineError("inline", 1, "no")

    engine.inline = [refuse]
    first, refused, last = engine.write([encoded(4), encoded(5), encoded(6)])
    assert isinstance(refused, InlineError)
    assert isinstance(first, Receipt)
    assert isinstance(last, Receipt)
    engine.close()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("DELETE FROM marks WHERE position = 2", "the index doesn't lead to all that is in it"),
        ("DELETE FROM marks WHERE position = 255", "the index doesn't lead to all that is in it"),
        ("INSERT INTO marks VALUES (7, 2)", "it has 1 marks that no events make"),
        ("UPDATE streams SET name = 'b-9' WHERE name = 'a-2'", "doesn't lead to all"),
        ("DELETE FROM streams WHERE name = 'a-2'", "has no name"),
        ("INSERT INTO streams (name) VALUES ('a-9')", "its row has no events"),
        ("UPDATE slices SET version = 9 WHERE position = 4", "doesn't follow on version 0"),
        ("DELETE FROM slices WHERE position = 4", "a gap: its events begin after 4, not after 2"),
        ("UPDATE slices SET body = '[1]' WHERE position = 4", "its body can't be read"),
        ("UPDATE slices SET recorded_at = 9 WHERE position = 4", "is earlier than"),
    ],
)
def test_check_names_what_is_damaged(url: str, harm: str, said: str) -> None:
    with open_store(url, events=[Entry]) as store:
        for number in range(4):
            store.commit(commit(number))
        assert store.check() == []
        with store.transaction() as transaction:
            transaction.execute(harm)
        assert said in " ".join(problem.what for problem in store.check())


@pytest.mark.parametrize(
    "sql", ["COMMIT", "rollback", " END", "BEGIN", "SET ROLE none", "RESET ALL", "DISCARD ALL"]
)
def test_the_transaction_is_the_stores(url: str, sql: str) -> None:
    with open_store(url) as store, store.transaction() as transaction:
        with pytest.raises(StatementError, match="the transaction is the store's"):
            transaction.execute(sql)
        transaction.execute("SET LOCAL work_mem = '8MB'")
        transaction.save_checkpoint(Checkpoint("c", 1))


def test_streams_of_rows_that_are_not_read_to_their_end(url: str) -> None:
    engine = PostgresEngine(url)
    with engine.view() as view:
        one, other = (view.rows("SELECT generate_series(1, 5000)") for _ in range(2))
        assert [next(one), next(other), next(one)] == [(1,), (1,), (2,)]
    with engine.transaction() as transaction:
        unread = transaction.rows("SELECT generate_series(1, 5000)")
        assert next(unread) == (1,)
        transaction.save_checkpoint(Checkpoint("c", 1))
    assert engine.checkpoint("c") == Checkpoint("c", 1)
    engine.close()


def test_purging_needs_the_right_to(server: PostgresServer, url: str) -> None:
    schema = url.rpartition("=")[2]
    with open_store(url) as store, store.transaction() as transaction:
        transaction.save_snapshot(Snapshot("s", 1, "fold", 1, b"x"))
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"""
            CREATE ROLE w{schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO w{schema};
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO w{schema};
        """)
        engine = PostgresEngine(url.replace("postgres@", f"w{schema}@"))
        for call in (engine.probe_purge, engine.purge):
            with pytest.raises(ReadOnlyError):
                call()
        engine.close()
        session.execute(f"DROP OWNED BY w{schema}; DROP ROLE w{schema}")
    engine = PostgresEngine(url)
    with engine.view():  # who looks at an old moment keeps nothing of it
        engine.probe_purge()
        engine.purge()
    assert engine.snapshots("s", None, 9) == []
    engine.close()


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "\0"])
def test_names_that_postgresql_cannot_store_are_not_there(url: str, name: str) -> None:
    with open_store(url, events=[Entry]) as store:
        store.append("b-1", entries("k", 1))
        engine = PostgresEngine(url)
        assert engine.stream(name) is None
        assert engine.checkpoint(name) is None
        assert [one.name for one in engine.streams(None, name, 9)] == ["b-1"]
        with engine.transaction() as transaction:
            assert transaction.checkpoint(name) is None
            transaction.delete_checkpoint(name)
            transaction.delete_snapshots(name)
        assert engine.read(Query().stream(name), 9).slices == []
        assert engine.read(Query().tags(name), 9).slices == []
        engine.close()


@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("SELECT E'it\\'s ?'", "SELECT E'it\\'s ?'"),
        ("SELECT a[1:2], b::text, ?", "SELECT a[1:2], b::text, %s"),
        ("SELECT x ?? :y -- :no ?", "SELECT x ? %(y)s -- :no ?"),
        ("SELECT $$ ? :a $$, '%', \"a?\" % 2", "SELECT $$ ? :a $$, '%%', \"a?\" %% 2"),
    ],
)
def test_parameters_are_found_where_they_are(sql: str, given: str) -> None:
    assert translated_parameters(sql) == given


def test_a_store_does_not_survive_a_fork(url: str) -> None:
    with open_store(url, events=[Entry]) as store:
        store.append("a", entries("k", 1))
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                store.head()
            except StorageError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            assert b"doesn't survive a fork" in said.read()
        os.waitpid(child, 0)
        assert store.append("a", entries("l", 1)).position == 2


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se%63ret@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?user=me&password=secret",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    with pytest.raises(StorageError, match="can't be reached") as raised:
        open_store(url)
    assert "secret" not in f"{raised.value} {raised.value.__cause__} {Address.parsed(url)!r}"


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://me:secret@host/db?nothing=secret",
        "postgresql://me:secret@host/db?schema=pg_log",
        "postgresql://me:secret@host/db?schema=Capital",
        "postgresql://me:secret@host/db?schema=",
        "postgresql://me:secret\u2100@[::1/db",
    ],
)
def test_what_is_no_address_is_refused_without_being_quoted(wrong: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        open_store(wrong)
    assert "secret" not in str(raised.value)


def test_other_schemas_are_left_alone(server: PostgresServer, url: str) -> None:
    schema = url.rpartition("=")[2]
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE SCHEMA {schema} CREATE TABLE users (n int)")
        with pytest.raises(NotAStoreError, match="has other tables"):
            open_store(url)
        session.execute(f"ALTER TABLE {schema}.users RENAME TO slices")
        with pytest.raises(NotAStoreError, match="other tables than a log's"):
            open_store(url)
        session.execute(f"DROP TABLE {schema}.slices")
        with pytest.raises(StorageError, match="there is no such log"):
            open_store(url, read_only=True)
        open_store(url).close()
        session.execute(f"UPDATE {schema}.meta SET version = 99")
        with pytest.raises(NewerStoreError, match="format 99"):
            open_store(url)


def test_the_roles_of_the_guide(server: PostgresServer) -> None:
    """They may what they are for, and no more."""
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"
    script = guide.read_text("utf-8").split("```sql\n")[1].split("```")[0]
    owner = server.url("postgres", schema="orders")
    with open_store(owner, events=[Entry]) as store:
        store.append("a", entries("k", 1))
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(script.encode())
        with open_store(owner.replace("postgres@", "orders_reader@"), events=[Entry]) as store:
            assert store.head().position == 1
            with pytest.raises(ReadOnlyError, match="a role that may write"):
                store.append("a", entries("l", 1))
        with open_store(owner.replace("postgres@", "orders_writer@"), events=[Entry]) as store:
            assert store.append("b", entries("l", 1)).position == 2
            with store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint("c", 2))
                transaction.save_snapshot(Snapshot("b", 2, "fold", 1, b""))
                transaction.delete_snapshots("b")
                with pytest.raises(StatementError, match="permission denied"):
                    transaction.execute("UPDATE slices SET body = ''")
            assert store.check() == []
        session.execute("DROP SCHEMA orders CASCADE")
        session.execute("DROP ROLE orders_writer, orders_reader")
