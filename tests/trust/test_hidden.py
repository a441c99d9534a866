"""An attacker without any key hides events from queries, or changes what is written from now on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.trust.attacks import HIDINGS, SCHEMAS, by_another, sql

from everwhen import Commit, Event, Query, Store, Write, open_store
from everwhen.errors import CorruptStoreError, MerkleLogError, TamperedError
from everwhen.merkle import FaultKind, LogReport, MerkleLog, TileFolder
from everwhen_verify.notes import Signer

SIGNER = Signer.generate("example.org/log")


class Noted(Event):
    tag_fields = ("tag",)

    number: int
    tag: str


def note(number: int) -> Noted:
    return Noted(number, f"t-{number % 4}")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """700 events: several blocks of the index."""
    path = tmp_path_factory.mktemp("hidden") / "store.db"
    with open_store(path, events=[Noted]) as store:
        store.commit_batch(
            Commit([Write(f"s-{n % 9}", [note(n)]), Write("other", [note(n)])]) for n in range(350)
        )
        MerkleLog(store, TileFolder.beside(path), SIGNER).sign()
        assert store.check() == []
        assert verified(store).is_sound
    return path


def log_of(store: Store) -> MerkleLog:
    return MerkleLog(store, TileFolder.beside(path_of(store)), SIGNER)


def path_of(store: Store) -> Path:
    found: Path = store.kernel.backend._engine.path  # type: ignore[attr-defined]
    return found


def verified(store: Store) -> LogReport:
    return log_of(store).verify()


@pytest.mark.attack(
    "rows or marks that queries find events by are deleted, moved or added, or an index leads elsewhere",
    about="history",
    answer="check and verify compute them again from the commits",
)
@pytest.mark.parametrize("when", ["before", "while open"])
@pytest.mark.parametrize("statements", HIDINGS.values(), ids=HIDINGS)
def test_what_hides_events_is_found(victim: Path, statements: Sequence[str], when: str) -> None:
    if when == "before":
        by_another(victim, statements)
    with open_store(victim, events=[Noted]) as store:
        events = len(list(store.read()))
        if when == "while open":
            by_another(victim, statements)
        assert events == len(list(store.read())) == 700, "no commit was touched"
        assert store.check()
        fault = verified(store).fault
        assert fault is not None
        assert fault.kind is FaultKind.HIDDEN, fault


def test_of_what_is_newer_only_that_is_looked_up(victim: Path) -> None:
    by_another(victim, ["DELETE FROM marks WHERE position < 500"])
    with open_store(victim, events=[Noted]) as store:
        signed = log_of(store).checkpoint()
        assert signed is not None
        assert not verified(store).is_sound
        store.commit_batch(Commit([Write("s-new", [note(1)])]) for _ in range(600))
        log_of(store).sign()
        assert log_of(store).verify(since=signed.note).is_sound
        by_another(victim, ["DELETE FROM marks WHERE position > 1000"])
        fault = log_of(store).verify(since=signed.note).fault
        assert fault is not None
        assert fault.kind is FaultKind.HIDDEN


def test_a_stream_is_hidden_where_its_index_leads_to_another_row(victim: Path) -> None:
    """The attack works, with a schema that is right to the letter: this is what is found above."""
    by_another(victim, HIDINGS["an index that leads to another row"])
    with open_store(victim, events=[Noted], read_only=True) as store:
        assert list(store.read(Query().stream("s-3"))) == []
        assert sum(event.stream == "s-3" for event in store.read()) == 39


@pytest.mark.attack(
    "a trigger, view, unique index or another table is put into the file",
    about="history",
    answer="the schema is compared: such a store isn't opened",
)
@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_another_schema_is_not_opened(
    victim: Path, statements: Sequence[str], read_only: bool
) -> None:
    by_another(victim, statements)
    with pytest.raises(CorruptStoreError, match="its schema is not one that Everwhen makes"):
        open_store(victim, read_only=read_only, events=[Noted])


@pytest.mark.attack(
    "the schema is changed while the store is open",
    about="history",
    answer="appends, signing and proving are refused",
)
@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_nothing_is_written_or_signed_on_top_of_another_schema(
    victim: Path, statements: Sequence[str]
) -> None:
    """Somebody changes it while the store is open."""
    refused = pytest.raises(CorruptStoreError, match="its schema is not one that Everwhen makes")
    with open_store(victim, events=[Noted]) as store:
        store.append("s-1", [note(1)])
        newest = log_of(store).checkpoint()
        by_another(victim, statements)
        for _ in range(2):
            with refused:
                store.append("s-1", [note(1)])
        with refused:
            log_of(store).sign()
        with refused:
            log_of(store).prove(1)
        assert log_of(store).checkpoint() == newest
        assert any(problem.where.startswith("schema, ") for problem in store.check())
        fault = verified(store).fault
        assert fault is not None
        assert fault.kind is FaultKind.DAMAGED
        assert "its schema is not one that Everwhen makes" in fault.what
    with sql(victim) as connection:
        assert connection.execute("SELECT max(position) FROM slices").fetchone() == (701,)
    connection.close()


def test_a_schema_that_is_put_right_again_is_taken(victim: Path) -> None:
    with open_store(victim, events=[Noted]) as store:
        by_another(victim, SCHEMAS["a trigger that stores something else"])
        with pytest.raises(CorruptStoreError, match="'t'"):
            store.append("s-1", [note(11)])
        by_another(victim, ["DROP TRIGGER t"])
        receipt = store.append("s-1", [note(11)])
        (stored,) = store.read(Query().after(receipt.position - 1))
        assert stored.event == note(11)
        log_of(store).sign()
        assert verified(store).is_sound


def test_tables_of_ones_own_beside_the_store_are_left_alone(victim: Path) -> None:
    own = ("CREATE TABLE own (x)", "CREATE VIEW seen AS SELECT x FROM own")
    with open_store(victim, events=[Noted]) as store:
        by_another(victim, [*own, "CREATE INDEX by_time ON slices (recorded_at)"])
        store.append("s-1", [note(1)])
        log_of(store).sign()
        assert store.check() == []
        assert verified(store).is_sound


@pytest.mark.attack(
    "rows, names or tables are made unreadable",
    about="history",
    answer="verify names the position",
)
@pytest.mark.parametrize(
    ("statement", "what", "position"),
    [
        ("DELETE FROM streams WHERE name = 's-3'", "has no name", 7),
        ("UPDATE streams SET name = CAST(x'41ff' AS TEXT) WHERE name = 's-3'", "utf-8", 7),
        ("UPDATE slices SET version = -5 WHERE position = 100", "row of slices", 100),
        ("UPDATE slices SET count = 1 << 62 | 1 WHERE position = 600", "row of slices", 600),
    ],
)
def test_what_cannot_be_read_is_named_by_its_place(
    victim: Path, statement: str, what: str, position: int
) -> None:
    """Also while it is open, and the name is remembered from before."""
    with open_store(victim, events=[Noted]) as store:
        assert len(list(store.read())) == 700
        by_another(victim, [statement])
        fault = verified(store).fault
        assert fault is not None
        assert (fault.kind, fault.position) == (FaultKind.DAMAGED, position), fault
        assert what in fault.what
        assert store.check()


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("first_index", [0, 1, 2, 5, (1 << 63) - 1])
def test_a_changed_first_index(victim: Path, first_index: int, sealed: bool) -> None:
    """Of each slice of a commit of two, whether it is signed already or not: none is overlooked."""
    with open_store(victim, events=[Noted]) as store:
        store.commit(Commit([Write("s-1", [note(1)] * 2), Write("s-2", [note(1)])]))
        if sealed:
            log_of(store).sign()
        for position, was in ((702, 0), (703, 2)):
            if first_index == was:
                continue
            change = "UPDATE slices SET first_index = {} WHERE position = {}"
            by_another(victim, ["DROP INDEX slices_by_commit"])
            by_another(victim, [change.format(first_index, position)])
            where = [problem.where for problem in store.check()]
            assert "schema, index 'slices_by_commit'" in where
            assert not verified(store).is_sound
            with pytest.raises((MerkleLogError, CorruptStoreError, TamperedError)):
                log_of(store).sign()
            by_another(victim, [change.format(was, position)])
            by_another(
                victim,
                [
                    (
                        "CREATE UNIQUE INDEX slices_by_commit ON slices (commit_id)"
                        " WHERE first_index = 0"
                    )
                ],
            )
