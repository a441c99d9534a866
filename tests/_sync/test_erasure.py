# Generated from tests/_async/test_erasure.py by tools/unasync.py: edit that, then run `make sync`.
"""Encryption and erasure over a whole store: whoever is forgotten is nowhere any more."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import uuid4

import apsw
import msgspec
import pytest
from tests.places import everywhere, tables_of
from tests.read_elsewhere import bytes_of
from tests.small_disks import fill, small_disk

from everwhen import (
    BusyError,
    Event,
    EventTypes,
    Fold,
    KeyFile,
    Personal,
    Projection,
    Query,
    RecordedEvent,
    StateOf,
    StorageError,
    TableProjection,
    Tables,
    UnknownEvent,
    Vault,
)
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.codec import Upcast
from everwhen.codec.commits import Commit, Write
from everwhen.commands import command_of
from everwhen.commands._sync.command_bus import CommandBus
from everwhen.commands.decisions import Decisions
from everwhen.errors import (
    CommitIdError,
    DeclarationError,
    ErasedSubjectError,
    InlineError,
    InvalidEventError,
    OutdatedVaultError,
    ProjectionError,
    ReadOnlyError,
    SealedError,
    StorageFullError,
    StoreClosedError,
    UnfinishedErasureError,
    UnsupportedError,
)
from everwhen.exchange import Csv, ExchangeProgress
from everwhen.exchange._sync.exporting import export_events
from everwhen.exchange._sync.importing import import_events
from everwhen.exchange.errors import ImportFormatError
from everwhen.merging._sync.merging import Merging
from everwhen.privacy import PLAINTEXT, Erased
from everwhen.privacy.erasure_marks import ErasureMark, UntilErasure
from everwhen.privacy.failure_texts import read_back, shown_failure, stored_failure
from everwhen.projections import OnError, parked_events, projection_statuses
from everwhen.projections._sync.runner import ProjectionRunner
from everwhen.reactions import Reaction
from everwhen.reactions._sync.reaction_runner import ReactionRunner
from everwhen.state.snapshots import subject_of
from everwhen.store._sync.repository import Repository
from everwhen.store._sync.store import Store, open_store
from everwhen.testing import ContractTest, contract_tests
from everwhen.tiers._sync.retiring import retired, surveyed
from everwhen.travel import HEAD
from everwhen.travel._sync.time_machine import TimeMachine
from everwhen.vocabulary import Snapshot
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import Seal
from everwhen.vocabulary.erasures import PURGE_DUE

NAME, EMAIL = "Ada Lovelace-Übermut", "ada.lovelace@example.org"


class Joined(Event):
    data_subject: ClassVar[str] = "player"
    tag_fields = ("player",)

    player: str
    name: Personal[str]
    email: Personal[str] | None = None


class Scored(Event):
    player: str
    points: int


class Join(msgspec.Struct, frozen=True):
    data_subject: ClassVar[str] = "player"

    player: str
    name: Personal[str]


TYPES = [Joined, Scored]
names: Fold[dict[str, Any]] = Fold("names", initial=dict, state=dict[str, str | Erased])
players: Fold[dict[str, Any]] = Fold("players", initial=dict, state=dict[str, str | Erased])


@names.on(Joined)
@players.on(Joined)
def _(state: dict[str, Any], event: Joined) -> dict[str, Any]:
    return {**state, event.player: event.name}


decisions = Decisions()


@decisions.on(Join, StateOf(players, lambda command: f"player-{command.player}"))
def _(command: Join, known: dict[str, Any]) -> list[Event]:
    return [] if command.player in known else [Joined(command.player, command.name)]


def _table() -> TableProjection:
    table = TableProjection("people", ["CREATE TABLE {people} (player TEXT, name TEXT)"])

    @table.on(Joined)
    def _(tables: Tables, joined: RecordedEvent[Joined]) -> None:
        name = joined.event.name
        shown = None if isinstance(name, Erased) else name
        tables.execute("INSERT INTO {people} VALUES (?, ?)", (joined.event.player, shown))

    return table


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    (tmp_path / "keys").mkdir()
    keys = KeyFile.create(tmp_path / "keys" / "key")
    with Vault(tmp_path / "people.vault", keys) as opened:
        yield opened


def _forms(text: str) -> list[bytes]:
    """The text as it may lie in a file."""
    found = [text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be", "latin-1")]
    found += [json.dumps(text)[1:-1].encode(), text.encode().hex().encode()]
    found.append(text.encode().hex().upper().encode())
    for shift in range(3):  # base64 has three looks, by where the text begins
        coded = base64.b64encode(bytes(shift) + text.encode())
        found.append(coded[4:-4])
        found.append(coded[4:-4].replace(b"+", b"-").replace(b"/", b"_"))
    return found


def _traces(folder: Path, *more: str) -> list[str]:
    """Where in the files, or in further texts, something is left of Ada."""
    contents = {str(file): bytes_of(file) for file in folder.rglob("*") if file.is_file()}
    contents.update({f"text {n}": text.encode() for n, text in enumerate(more)})
    return [
        f"{where}: {form!r}"
        for where, content in contents.items()
        for text in (NAME, EMAIL)
        for form in _forms(text)
        if form in content
    ]


def _left(folder: Path, location: str, *more: str) -> list[str]:
    """The same, and in the tables of a store that keeps none of its files in the folder."""
    return _traces(folder, *more, *tables_of(location))


def _all(store: Store, query: Query | str | None = None) -> list[Any]:
    return [e.event for e in store.read(Query() if query is None else query)]


def _first(store: Store) -> RecordedEvent[Any]:
    for event in store.read(Query().limit(1)):
        return event
    raise AssertionError


def test_whoever_is_forgotten_is_in_no_byte_of_any_file(
    location: str, tmp_path: Path, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with open_store(location, events=TYPES, vault=vault) as store:
        bus = CommandBus(store, decisions)
        bus.send(Join("ada", NAME))
        store.append("player-ada", [Joined("ada", NAME, EMAIL), Scored("ada", 3)])
        store.append("player-bob", [Joined("bob", "Bob", "bob@example.org")])
        repository = Repository(store, names)
        repository.snapshot(repository.load("player-ada"))
        repository.snapshot(repository.load(Query()))
        machine = TimeMachine(store, names)
        assert (machine.travel_to(HEAD)).state["ada"] == NAME
        with store.create_branch("what-if") as branch:
            branch.append("player-ada", [Joined("ada", NAME, EMAIL)])
            other = Repository(branch, names)
            other.snapshot(other.load(Query()))
        table, state = _table(), Projection(names)
        with ProjectionRunner(store, [table, state]) as runner:
            runner.catch_up()
            with store.transaction() as transaction:
                rows = transaction.execute("SELECT name FROM people")
            assert (NAME,) in rows
            export_events(store, tmp_path / "before.jsonl")
            assert not _traces(tmp_path / "keys")
            assert _left(
                tmp_path, location
            )  # in the table: a read model is what its owner makes of it
            erasure = store.forget("ada")
            assert erasure.projections == ("people",)
            assert erasure.subjects == ("ada",)
            known, _ = runner.ask(state, dict)
            assert known == {"ada": Erased("ada"), "bob": "Bob"}
            runner.catch_up()
            with store.transaction() as transaction:
                rows = transaction.execute("SELECT player, name FROM people")
            assert ("bob", "Bob") in rows
            assert ("ada", None) in rows
            assert (NAME,) not in [(row[1],) for row in rows]
        assert not _left(tmp_path, location, caplog.text)
        assert (machine.travel_to(2)).state == {"ada": Erased("ada")}
        assert (repository.load("player-ada")).state == {"ada": Erased("ada")}
        with pytest.raises(ErasedSubjectError) as refused:
            store.append("player-ada", [Joined("ada", NAME, EMAIL)])
        said.append(str(refused.value))
        with pytest.raises(ErasedSubjectError) as refused:
            bus.send(Join("ada/again", NAME), command_id=uuid4())
        said.append(str(refused.value))
        _nothing_left_elsewhere(store, tmp_path)
        assert not _left(tmp_path, location, caplog.text, *said)
    assert not _left(tmp_path, location, caplog.text, *said)


def _nothing_left_elsewhere(store: Store, tmp_path: Path) -> None:
    """Exports and branches know her no more, and others as before."""
    export_events(store, tmp_path / "after.csv")
    export_events(store, tmp_path / "after.jsonl", plaintext=True)
    with store.branch("what-if") as branch:
        first = (_all(branch, "player-ada"))[-1]
        assert first.name == Erased("ada")
    assert (_all(store, "player-bob")) == [Joined("bob", "Bob", "bob@example.org")]
    assert store.check() == []


def test_a_restored_store_does_not_bring_anybody_back(tmp_path: Path, vault: Vault) -> None:
    with open_store(tmp_path / "s.db", events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        repository = Repository(store, names)
        repository.snapshot(repository.load(Query()))
    shutil.copy(tmp_path / "s.db", tmp_path / "backup.db")
    with open_store(tmp_path / "s.db", events=TYPES, vault=vault) as store:
        store.forget("ada")
    with open_store(tmp_path / "backup.db", events=TYPES, vault=vault) as store:
        assert _all(store, "player-ada") == [Joined("ada", Erased("ada"))]
        assert (Repository(store, names).load(Query())).state == {"ada": Erased("ada")}
        erasure = store.forget("ada")
        assert erasure.repeated
        assert len(_all(store, "everwhen-erasures")) == 1
    assert not _traces(tmp_path)


@pytest.mark.attack(
    "an older vault is put in the place of the newest",
    about="people",
    answer="the store's records of erasures name who would come back",
    needs="the records in the store",
)
def test_an_older_vault_brings_nobody_back(location: str, tmp_path: Path, vault: Vault) -> None:
    old = tmp_path / "old.vault"
    with open_store(location, events=TYPES, vault=vault) as store:
        for player in ("ada", "bob", "eve"):
            store.append(f"player-{player}", [Joined(player, NAME)])
        store.forget("eve")
        vault.backup(old)
        store.forget_all(["ada", "bob"])
    with Vault(old, vault.keys) as older:
        for read_only in (True, False):
            with pytest.raises(OutdatedVaultError, match="newest vault") as caught:
                open_store(location, events=TYPES, vault=older, read_only=read_only)
            assert caught.value.subjects == ("ada", "bob")
        assert older.subjects() == ["ada", "bob"], "nothing is destroyed unasked"
        older.forget("bob")
        older.forget("zoe")  # its count is that of the store again
        with pytest.raises(OutdatedVaultError) as caught:
            open_store(location, events=TYPES, vault=older)
        assert caught.value.subjects == ("ada",)
        older.forget_all(caught.value.subjects)
        with open_store(location, events=TYPES, vault=older) as store:
            assert {event.name for event in _all(store, Query().types(Joined))} == {
                Erased("ada"),
                Erased("bob"),
                Erased("eve"),
            }
            assert store.check() == []
    with open_store(location, events=TYPES, vault=vault) as store:
        assert store.check() == []


@pytest.mark.parametrize("checkpoint", ["is behind", "is gone"])
def test_a_record_counts_though_the_store_had_not_come_to_purge(
    location: str, tmp_path: Path, vault: Vault, checkpoint: str
) -> None:
    old = tmp_path / "old.vault"
    with open_store(location, events=TYPES, vault=vault) as store:
        for player in ("ada", "bob"):
            store.append(f"player-{player}", [Joined(player, NAME)])
        store.forget("bob")
        vault.backup(old)
        before = store.checkpoint("everwhen-erasures")
        assert before is not None
        store.forget("ada")
        with store.transaction() as transaction:
            if checkpoint == "is behind":
                transaction.save_checkpoint(before)
            else:
                transaction.delete_checkpoint("everwhen-erasures")
    with Vault(old, vault.keys) as older:
        with pytest.raises(OutdatedVaultError) as caught:
            open_store(location, events=TYPES, vault=older)
        assert caught.value.subjects == ("ada",)


def test_an_older_vault_is_noticed_after_the_records_were_retired(
    location: str, tmp_path: Path, vault: Vault
) -> None:
    old = tmp_path / "old.vault"
    with open_store(location, events=TYPES, vault=vault) as store:
        for player in ("ada", "bob"):
            store.append(f"player-{player}", [Joined(player, NAME)])
        vault.backup(old)
        store.forget_all(["ada", "bob"])
        store.append("player-eve", [Joined("eve", NAME)])
        for _ in range(2):  # the second time, what was carried over is
            last = (store.head()).position
            store.kernel.backend.move(Seal(last))
            retired(store, *surveyed(store, last))
            store.append("player-eve", [Joined("eve", NAME)])
        assert store.check() == []
    with Vault(old, vault.keys) as older:
        with pytest.raises(OutdatedVaultError, match="newest vault") as caught:
            open_store(location, events=TYPES, vault=older)
        assert caught.value.subjects == ("ada", "bob")


def test_only_what_everwhen_recorded_itself_counts_as_a_record(location: str, vault: Vault) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        said = {"subject": "ada", "number": 1}
        for event in (
            UnknownEvent("SubjectErased", said),
            UnknownEvent("SubjectErased", {"subject": 1}),
            UnknownEvent("Other", {}),
        ):
            store.append("everwhen-erasures", [event])
    with open_store(location, events=TYPES, vault=vault) as store:
        assert (_first(store)).event.name == NAME
        assert store.check() == []


def test_records_come_along_with_an_export(location: str, tmp_path: Path, vault: Vault) -> None:
    old = tmp_path / "old.vault"
    with open_store(tmp_path / "one.db", events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        vault.backup(old)
        store.forget("ada")
        export_events(store, tmp_path / "one.jsonl")
    with open_store(location, events=TYPES, vault=vault) as store:
        import_events(store, tmp_path / "one.jsonl")
    with Vault(old, vault.keys) as older, pytest.raises(OutdatedVaultError):
        open_store(location, events=TYPES, vault=older)


@pytest.mark.attack(
    "a destroyed key is put back into the vault",
    about="people",
    answer="its tombstone: it is never used, and is reported",
)
def test_keys_put_back_past_everwhen_are_reported_and_destroyed(
    location: str, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[Any] = []
    with open_store(location, events=TYPES, vault=vault) as store:
        for player in ("ada", "bob"):
            store.append(f"player-{player}", [Joined(player, NAME)])
        rows = vault._file.run("SELECT * FROM keys WHERE subject = 'ada'")
        store.forget("ada")
        store.forget("bob")
    with contextlib.closing(apsw.Connection(str(vault.path))) as connection:
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", rows[0])
    with open_store(location, events=TYPES, vault=vault) as store:
        assert "has keys of 'ada', who has been forgotten" in caplog.text
        assert (_first(store)).event.name == Erased("ada")
        (problem,) = store.check()
        assert "'ada'" in problem.where
        assert "beside its tombstone" in problem.what
        with contextlib.closing(apsw.Connection(str(vault.path))) as connection:
            connection.execute("DELETE FROM stones WHERE subject = 'ada'")
        (problem,) = store.check()
        assert "the store records the erasure" in problem.what
        erasure = store.forget("ada")
        assert (erasure.subjects, erasure.repeated) == (("ada",), False)
        assert store.check() == []
        assert len(_all(store, "everwhen-erasures")) == 3
    assert rows[0][3] not in bytes_of(vault.path)


def test_what_was_made_while_keys_stood_beside_a_tombstone_is_made_anew(
    location: str, vault: Vault
) -> None:
    vault.forget("zoe")
    _with_a_table(location, vault)
    with contextlib.closing(apsw.Connection(str(vault.path))) as connection:
        connection.execute("INSERT INTO stones VALUES ('ada', 0, 1)")
    with open_store(location, events=TYPES, vault=vault) as store:
        erasure = store.forget("ada")
        assert (erasure.subjects, erasure.repeated) == (("ada",), False)
        assert erasure.projections == ("people",)


@everywhere
def test_forgetting_is_recorded_once_and_safe_to_repeat(location: str, vault: Vault) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        first, second = store.forget("ada"), store.forget("ada")
        assert (first.position, second.position) == (2, 2)
        assert (first.repeated, second.repeated) == (False, True)
        (record,) = _all(store, "everwhen-erasures")
        assert record == UnknownEvent("SubjectErased", {"subject": "ada", "number": 1})


def test_forgetting_gets_past_those_who_write_and_checkpoint(tmp_path: Path, vault: Vault) -> None:
    path, stop = tmp_path / "s.db", threading.Event()

    def hinder() -> None:
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            connection.set_busy_timeout(60_000)
            while not stop.is_set():
                connection.pragma("user_version", connection.pragma("user_version"))
                connection.execute("PRAGMA wal_checkpoint")

    with open_store(path, events=TYPES, vault=vault, busy_timeout=120) as store:
        for number in range(3):
            store.append(f"player-{number}", [Joined(str(number), NAME)])
        hindering = threading.Thread(target=hinder)
        hindering.start()
        try:
            for number in range(3):
                assert (store.forget(str(number))).subjects == (str(number),)
        finally:
            stop.set()
            hindering.join()
    assert not _traces(tmp_path)


def test_a_reader_in_the_way_is_named_and_the_rest_is_done_later(
    tmp_path: Path, vault: Vault
) -> None:
    path = tmp_path / "s.db"
    with open_store(path, events=TYPES, vault=vault, busy_timeout=0.1) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        store.append("player-bob", [Joined("bob", NAME)])
        with contextlib.closing(apsw.Connection(str(path))) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM slices").get == 2
            with pytest.raises(UnfinishedErasureError, match="somebody still reads") as cut:
                store.forget("ada")
            assert cut.value.subjects == ("ada",)
            assert isinstance(cut.value.__cause__, BusyError)
            assert vault.is_forgotten("ada")
            store.append("player-bob", [Scored("bob", 1)])  # nobody is locked out by it
        assert (store.forget("ada")).repeated
        with contextlib.closing(apsw.Connection(str(path))) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM slices").get == 4
            with pytest.raises(UnfinishedErasureError):
                store.forget("bob")
    with open_store(path, events=TYPES, vault=vault) as store:  # does the rest
        assert store.carry_out_erasures() == []
        assert [e for e in store.read("everwhen-erasures")][-1].version == 2
    assert not _traces(tmp_path)


def test_without_room_to_purge_no_key_is_destroyed(tmp_path: Path, vault: Vault) -> None:
    with small_disk(tmp_path, megabytes=4) as disk:
        with open_store(disk / "s.db", events=TYPES, vault=vault) as store:
            store.append("player-ada", [Joined("ada", NAME)])
            store.append("bulk", [UnknownEvent("T", {"x": "y" * 1_000})] * 1_000)
            store.kernel.backend.purge()  # what was written lies in the file alone
            filler = disk / "filler"
            fill(filler, leaving=200_000)
            with pytest.raises(StorageFullError, match="more than are free there"):
                store.forget("ada")
            assert vault.subjects() == ["ada"]
            filler.unlink()
            assert (store.forget("ada")).subjects == ("ada",)


def test_a_build_whose_traces_could_not_be_purged_is_purged_on_opening(
    tmp_path: Path, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    path, table = tmp_path / "s.db", _table()
    with open_store(path, events=TYPES, vault=vault, busy_timeout=0.1) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        runner = ProjectionRunner(store, [table])
        runner.catch_up()
        store.forget("ada")
        with contextlib.closing(apsw.Connection(str(path))) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM slices").get == 2
            runner.catch_up()  # builds the table anew, and is live
        assert "still to be purged" in caplog.text
        runner.close()
    with open_store(path, events=TYPES, vault=vault) as store:
        assert store.checkpoint(PURGE_DUE) is None
    assert not _traces(tmp_path)


def _quoting(name: str, then: Literal["halt", "park"]) -> TableProjection:
    """A projection whose function fails, and says on whom."""
    made = TableProjection(name, [f"CREATE TABLE {{{name}}} (name TEXT)"], on_error=_once(then))

    @made.on(Joined)
    def quotes(tables: Tables, joined: RecordedEvent[Joined]) -> None:
        raise ValueError(f"{joined.event.name} <{joined.event.email}> doesn't fit")

    return made


def _once(then: Literal["halt", "park"]) -> OnError:
    return OnError(then, retries=0)


def _told(error: str | None) -> str:
    """Without the number of the line."""
    return re.sub(r":\d+ in \w+\.<locals>", "", error or "")


QUOTED = f"ValueError at test_erasure.py.quotes: {NAME} <{EMAIL}> doesn't fit"
GONE = "ValueError at test_erasure.py.quotes (the message went when somebody was forgotten)"


def test_what_was_said_of_failures_is_nowhere_either(
    location: str, tmp_path: Path, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME, EMAIL)])
        with store.create_branch("what-if") as branch:
            branch.append("player-bob", [Scored("bob", 1)])
            for one in (store, branch):
                parking, halting = _quoting("parking", "park"), _quoting("halting", "halt")
                runner = ProjectionRunner(one, [parking, halting])
                with pytest.raises(ProjectionError) as halted:
                    runner.catch_up()
                assert isinstance(halted.value.__cause__, ValueError)
                assert not _left(tmp_path, location, str(halted.value), repr(halted.value))
                assert runner.retry_parked(parking) == 1
                assert _told((runner.parked(parking))[0].error) == QUOTED
                status = {s.name: s for s in runner.status()}
                assert _told(status["halting"].error) == QUOTED
                runner.close()
            assert _told((parked_events(store, "parking"))[0].error) == QUOTED
            assert not _left(tmp_path, location, caplog.text)
            assert "ValueError at test_erasure.py" in caplog.text
            store.forget("ada")
            for one in (store, branch):
                assert _told((parked_events(one, "parking"))[0].error) == GONE
                (status_now,) = [s for s in projection_statuses(one) if s.name == "halting"]
                assert (status_now.state, _told(status_now.error)) == ("halted", GONE)
        with open_store(location, vault=PLAINTEXT) as bare:
            told = (parked_events(bare, "parking"))[0].error
            assert _told(told) == "ValueError at test_erasure.py.quotes"
    assert not _left(tmp_path, location, caplog.text)


def test_reactions_and_inline_projections_say_nothing_either(
    location: str, tmp_path: Path, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reaction = Reaction("greet", on_error=_once("park"))

    @reaction.on(Joined)
    def quotes(joined: RecordedEvent[Joined]) -> list[Any]:
        raise ValueError(f"{joined.event.name} <{joined.event.email}> doesn't fit")

    with open_store(location, events=TYPES, vault=vault) as store:
        halting, parking = _quoting("halting", "halt"), _quoting("parking", "park")
        with ProjectionRunner(store, [], inline=[halting, parking]) as runner:
            runner.catch_up()
            with pytest.raises(InlineError) as refused:
                store.append("player-ada", [Joined("ada", NAME, EMAIL)])
            assert "ValueError at test_erasure.py" in str(refused.value)
        with ProjectionRunner(store, [], inline=[parking]) as runner:
            runner.catch_up()
            store.append("player-ada", [Joined("ada", NAME, EMAIL)])
            assert _told((parked_events(store, "parking"))[0].error) == QUOTED
        reactions = ReactionRunner(CommandBus(store, decisions), [reaction])
        reactions.catch_up()
        assert _told((reactions.parked(reaction))[0].error).endswith(QUOTED[-20:])
        assert reactions.retry_parked(reaction) == 1
        reactions.close()
        assert not _left(tmp_path, location, caplog.text, str(refused.value))
        store.forget("ada")
        assert _told((parked_events(store, "parking"))[0].error) == GONE
        assert _told((parked_events(store, "greet"))[0].error).endswith(GONE[-20:])
    assert not _left(tmp_path, location, caplog.text)


def test_states_in_memory_say_nothing_either(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    quoting: Fold[int] = Fold("quoting", int)

    @quoting.on(Joined)
    def quotes(state: int, joined: Joined) -> int:
        raise ValueError(f"{joined.name} <{joined.email}> doesn't fit")

    with open_store("memory:", events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME, EMAIL)])
        parking = Projection(quoting, name="parking", on_error=_once("park"))
        halting = Projection(quoting, name="halting", on_error=_once("halt"))
        runner = ProjectionRunner(store, [parking, halting])
        with pytest.raises(ProjectionError) as halted:
            runner.catch_up()
        (parked,) = runner.parked(parking)
        assert NAME in (parked.error or "")
        store.forget("ada")
        (parked,) = runner.parked(parking)
        status = [str(one.error) for one in runner.status()]
        assert "the message went" in (parked.error or "")
        said = [str(halted.value), str(parked.error), *status, caplog.text]
        assert not [text for text in said if NAME in text or EMAIL in text]
        runner.close()


def test_a_value_is_given_back_until_somebody_is_forgotten(vault: Vault) -> None:
    made = iter(range(9))
    kept, untouched = UntilErasure(vault, made.__next__), UntilErasure(None, made.__next__)
    mark = ErasureMark.now(vault)
    assert (kept.value, kept.value, mark.is_outdated) == (0, 0, False)
    vault.forget("ada")
    assert (kept.value, kept.value, mark.is_outdated) == (2, 2, True)
    vault.forget("bob")
    assert (kept.value, kept.value, untouched.value) == (3, 3, 1)
    assert ErasureMark.now(vault) == ErasureMark(vault, 2)
    assert not ErasureMark(vault, 3).is_outdated


def test_a_message_that_came_too_late_is_not_kept(vault: Vault) -> None:
    try:
        raise ValueError(NAME)  # noqa: TRY301
    except ValueError as error:
        failure = error
    before = ErasureMark.now(vault)
    assert NAME in read_back(stored_failure(failure, before), vault)
    vault.forget("ada")
    assert stored_failure(failure, before) == shown_failure(failure, vault)
    now = ErasureMark.now(vault)
    assert NAME in read_back(stored_failure(failure, now), vault)
    assert stored_failure(failure, ErasureMark.now(None)) == f"ValueError: {NAME}"
    damaged = stored_failure(failure, now)[:-9] + "not base64"
    assert read_back(damaged, vault).endswith("(the message went when somebody was forgotten)")
    vault.close()
    assert stored_failure(failure, now) == shown_failure(failure, vault)
    assert shown_failure(KeyError(NAME), vault) == "KeyError"


@everywhere
def test_no_key_is_destroyed_where_nothing_can_be_written(location: str, vault: Vault) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        with store.transaction():
            with pytest.raises(UnsupportedError, match="inside a transaction"):
                store.forget("ada")
    with pytest.raises(StoreClosedError):
        store.forget("ada")
    assert vault.subjects() == ["ada"]
    assert vault.tombstones() == []


def test_a_store_that_is_read_only_destroys_no_key(location: str, vault: Vault) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        with store.create_branch("what-if") as branch:
            branch.append("player-ada", [Joined("ada", EMAIL)])
    with open_store(location, events=TYPES, vault=vault, read_only=True) as store:
        with store.branch("what-if") as branch:
            for one in (store, branch):
                with pytest.raises(ReadOnlyError):
                    one.forget("ada")
                with pytest.raises(ReadOnlyError):
                    one.forget_all(["ada", "bob"])
        assert _all(store) == [Joined("ada", NAME)]
    assert vault.subjects() == ["ada"]


def test_a_store_that_others_write_to_destroys_no_key(location: str, vault: Vault) -> None:
    options: Any = {"events": TYPES, "vault": vault, "busy_timeout": 0.01}
    with open_store(location, **options) as store, open_store(location) as other:
        store.append("player-ada", [Joined("ada", NAME)])
        with other.transaction() as transaction:
            transaction.save_snapshot(Snapshot("s", 1, "fold", 1, b"state"))
            with pytest.raises(StorageError):
                store.forget("ada")
        assert vault.subjects() == ["ada"]
        assert (store.forget("ada")).subjects == ("ada",)


def test_many_are_forgotten_in_one_go(location: str, tmp_path: Path, vault: Vault) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("s", [Joined("ada", NAME), Joined("bob", "Bob"), Joined("eve", "Eve")])
        store.append("s", [Joined("ada/2", NAME)])
        store.forget("bob")
        with pytest.raises(InvalidEventError):
            store.forget_all(["ada", ""])
        assert vault.subjects() == ["ada", "ada/2", "eve"]
        done = store.forget_all(["ada", "bob", "ada/2", "eve"])
        assert [(one.number, one.subjects, one.position, one.repeated) for one in done] == [
            (2, ("ada", "ada/2"), 6, False),
            (1, (), 5, True),
            (2, (), 6, True),
            (3, ("eve",), 7, False),
        ]
        said = [event.data["subject"] for event in _all(store, "everwhen-erasures")]
        assert said == ["bob", "ada", "eve"]
        assert store.forget_all([]) == []
        assert not _left(tmp_path, location)


def _with_a_table(location: str, vault: Vault) -> None:
    """A store that has Ada in a table, in a snapshot and on a branch."""
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME, EMAIL)])
        repository = Repository(store, names)
        repository.snapshot(repository.load(Query()))
        with store.create_branch("what-if") as branch:
            branch.append("player-ada", [Joined("ada", NAME)])
            with ProjectionRunner(branch, [_table()]) as runner:
                runner.catch_up()
        with ProjectionRunner(store, [_table()]) as runner:
            runner.catch_up()


def test_other_stores_with_the_vault_carry_out_what_was_forgotten(
    location: str, tmp_path: Path, vault: Vault
) -> None:
    _with_a_table(location, vault)
    with open_store(tmp_path / "one.db", events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        store.forget("ada")
        store.forget("bob")
    assert _left(tmp_path, location)
    with open_store(location, events=TYPES, vault=vault, read_only=True) as other:
        assert _all(other, "everwhen-erasures") == []
    for _ in range(2):
        with open_store(location, events=TYPES, vault=vault) as other:
            said = [event.data for event in _all(other, "everwhen-erasures")]
            assert said == [{"subject": "ada", "number": 1}, {"subject": "bob", "number": 2}]
            assert (other.head()).position == 3
            assert other.snapshots(subject_of(names, Query())) == []
            assert other.carry_out_erasures() == []
            with ProjectionRunner(other, [_table()]) as runner:
                runner.catch_up()
            with other.branch("what-if") as branch:
                with ProjectionRunner(branch, [_table()]) as runner:
                    runner.catch_up()
    assert not _left(tmp_path, location)


def test_a_store_that_stays_open_carries_out_what_was_forgotten(
    location: str, tmp_path: Path, vault: Vault
) -> None:
    _with_a_table(location, vault)
    with (
        open_store(tmp_path / "one.db", events=TYPES, vault=vault) as one,
        open_store(location, events=TYPES, vault=vault) as with_table,
        open_store(tmp_path / "without.db", events=TYPES, vault=vault) as without,
    ):
        without.append("player-ada", [Joined("ada", NAME)])
        one.forget("ada")
        with ProjectionRunner(with_table, [_table()]) as runner:
            runner.catch_up()  # with the tables, the erasure is carried out too
        assert len(_all(with_table, "everwhen-erasures")) == 1
        assert without.carry_out_erasures() == ["ada"]
        assert without.carry_out_erasures() == []
        assert len(_all(without, "everwhen-erasures")) == 1
        with with_table.branch("what-if") as branch:
            with ProjectionRunner(branch, [_table()]) as runner:
                runner.catch_up()
        assert not _left(tmp_path, location)


def test_an_erasure_that_others_stand_in_the_way_of_is_carried_out_later(
    tmp_path: Path, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "s.db"
    _with_a_table(str(file), vault)
    vault.forget("ada")
    reader = apsw.Connection(str(file))
    reader.execute("BEGIN; SELECT * FROM slices").fetchall()
    options: Any = {"events": TYPES, "vault": vault, "busy_timeout": 0.01}
    with open_store(file, **options) as store:
        assert "when the store is opened again" in caplog.text
        assert store.checkpoint("everwhen-erasures") is None
    reader.close()
    with open_store(file, events=TYPES, vault=vault) as store:
        assert store.checkpoint("everwhen-erasures") is not None
        assert len(_all(store, "everwhen-erasures")) == 1


def test_a_new_store_has_nothing_to_erase(vault: Vault) -> None:
    vault.forget("ada")
    with open_store("memory:", events=TYPES, vault=vault) as store:
        assert (store.head()).position == 0
        store.append("player-bob", [Joined("bob", "Bob")])
        assert store.carry_out_erasures() == []
        vault.forget("bob")
        assert store.carry_out_erasures() == ["bob"]


def test_another_vault_has_erasures_of_its_own(location: str, tmp_path: Path, vault: Vault) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("player-ada", [Joined("ada", NAME)])
        store.forget_all(["ada", "bob"])
    with Vault(tmp_path / "second.vault", vault.keys) as second:
        second.forget("eve")
        with open_store(location, events=TYPES, vault=second) as store:
            said = [event.data["subject"] for event in _all(store, "everwhen-erasures")]
            assert said == ["ada", "bob", "eve"]
            assert store.carry_out_erasures() == []


def test_a_store_without_a_vault_never_stores_personal_fields_by_accident(
    location: str, vault: Vault
) -> None:
    with pytest.raises(DeclarationError, match="PLAINTEXT"):
        open_store("memory:", events=TYPES)
    with open_store("memory:", events=TYPES, vault=PLAINTEXT) as store:
        store.append("s", [Joined("ada", NAME)])
        assert _all(store) == [Joined("ada", NAME)]
        with pytest.raises(DeclarationError, match="no vault"):
            store.forget("ada")
    with open_store("memory:") as store:
        with pytest.raises(DeclarationError, match="command Join"):
            CommandBus(store, decisions)
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("s", [Joined("ada", NAME), Scored("ada", 1)])
    with open_store(location, events=TYPES, vault=PLAINTEXT) as store:
        events = [event for event in store.read()]
        with pytest.raises(SealedError, match="without its vault"):
            _ = events[0].event
        assert events[1].event == Scored("ada", 1)


def test_a_lost_key_breaks_no_page(vault: Vault) -> None:
    with open_store("memory:", events=TYPES, vault=vault) as store:
        store.append("s", [Joined("ada", NAME), Joined("bob", "Bob"), Scored("bob", 1)])
        vault._file.run("DELETE FROM keys WHERE subject = 'ada'")
        vault._ciphers.clear()
        events = [event for event in store.read()]
        assert [event.event for event in events[1:]] == [Joined("bob", "Bob"), Scored("bob", 1)]
        with pytest.raises(SealedError, match="restore the vault"):
            _ = events[0].event
        with pytest.raises(SealedError):
            store.fold(names)


def test_a_repeat_is_one_also_after_a_rotation(vault: Vault) -> None:
    with open_store("memory:", events=TYPES, vault=vault) as store:
        commit_id = uuid4()
        commit = Commit((Write("s", [Joined("ada", NAME), Scored("ada", 1)]),), id=commit_id)
        first = store.commit(commit)
        vault.rotate("ada")
        assert (store.commit(commit)).position == first.position
        assert (store.commit_batch([commit]))[0].repeated
        other = Commit((Write("s", [Joined("ada", "Eve"), Scored("ada", 1)]),), id=commit_id)
        with pytest.raises(CommitIdError):
            store.commit(other)


def test_commands_are_encrypted_and_work_as_ever(
    location: str, tmp_path: Path, vault: Vault
) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        bus, command_id = CommandBus(store, decisions), uuid4()
        bus.send(Join("ada", NAME), command_id=command_id)
        assert (bus.send(Join("ada", NAME), command_id=command_id)).repeated
        with pytest.raises(CommitIdError):
            bus.send(Join("ada", "Eve"), command_id=command_id)
        bus.send(Join("bob", "Bob"))
        recorded = command_of(_first(store))
        assert recorded is not None
        assert decisions.restored(recorded) == Join("ada", NAME)
        assert not _left(tmp_path, location)
        store.forget("ada")
        recorded = command_of(_first(store))
        assert recorded is not None
        assert decisions.restored(recorded) == Join("ada", Erased("ada"))
        with pytest.raises(ErasedSubjectError):
            bus.send(Join("ada/again", NAME))


def test_branches_merge_and_rebase_with_their_commands(
    location: str, tmp_path: Path, vault: Vault
) -> None:
    with open_store(location, events=TYPES, vault=vault) as store:
        with store.create_branch("b") as branch:
            CommandBus(branch, decisions).send(Join("ada", NAME))
            store.append("player-bob", [Joined("bob", "Bob")])
            Merging(store, decisions).merge(branch)
            rebased = Merging(store, decisions).rebase(branch, strategy="theirs")
        assert (_all(store, "player-ada")) == [Joined("ada", NAME)]
        rebased.close()
        with store.create_branch("c") as branch:
            CommandBus(branch, decisions).send(Join("eve", "Eve"))
            with Merging(store, decisions).rebase(branch) as moved:
                events = [e for e in moved.read("player-eve")]
                recorded = command_of(events[0])
                assert recorded is not None
                assert decisions.restored(recorded) == Join("eve", "Eve")
    assert not _left(tmp_path, location)


def test_old_versions_with_personal_fields_are_upcast(
    tmp_path_factory: pytest.TempPathFactory, vault: Vault
) -> None:
    tmp_path = tmp_path_factory.mktemp("exported")

    class JoinedV1(Event):
        type_name = "Joined"
        data_subject: ClassVar[str] = "player"
        player: str
        full_name: Personal[str]

    class JoinedV2(Event):
        type_name = "Joined"
        schema_version = 2
        data_subject: ClassVar[str] = "player"
        player: str
        name: Personal[str]

    backend = EmbeddedBackend(_memory())
    old = Store(backend, events=EventTypes(JoinedV1), vault=vault)
    old.append("s", [JoinedV1("ada", NAME), JoinedV1("bob", "Bob")])
    raw = Upcast("Joined", 1, lambda d: {"player": d["player"], "name": d["full_name"]})
    typed = Upcast.typed(JoinedV1, lambda e: JoinedV2(e.player, e.full_name))
    for upcast in (raw, typed):
        new = Store(backend, events=EventTypes(JoinedV2, upcasts=[upcast]), vault=vault)
        assert _all(new) == [JoinedV2("ada", NAME), JoinedV2("bob", "Bob")]
        for name in ("new.csv", "new.xes"):
            export_events(new, tmp_path / name, query=Query().category("s"), overwrite=True)
        assert not _traces(tmp_path), "what is encrypted is exported as it is stored"
        assert (tmp_path / "new.csv").read_text().count("$sealed") == 2
    new.forget("ada")
    assert (_all(new, "s"))[0] == JoinedV2("ada", Erased("ada"))


def _memory() -> Any:
    from everwhen.backends.memory import MemoryEngine

    return MemoryEngine()


def test_an_export_is_encrypted_unless_wished_otherwise(
    location: str, tmp_path: Path, vault: Vault
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    with open_store(location, events=TYPES, vault=vault) as store:
        store.append("s", [Joined("ada", NAME, EMAIL), Scored("ada", 1)])
        export_events(store, files / "sealed.jsonl")
        export_events(store, files / "sealed.csv")
        assert not _traces(files)
        with open_store(tmp_path / "copy.db", events=TYPES, vault=vault) as copy:
            import_events(copy, files / "sealed.jsonl")
            assert _all(copy) == _all(store)
        export_events(store, files / "plain.jsonl", plaintext=True)
        assert _traces(files)
        keys = KeyFile.create(tmp_path / "keys" / "second")
        with Vault(tmp_path / "second.vault", keys) as second:
            target = tmp_path / "other.db"
            with open_store(target, events=TYPES, vault=second) as copy:
                import_events(copy, files / "plain.jsonl")
                assert _all(copy) == _all(store)
                copy.forget("ada")
                assert (_all(copy, "s"))[0].name == Erased("ada")
        shutil.rmtree(files)
    assert not _left(tmp_path, location)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain.jsonl", "others.csv"])
def test_an_import_goes_on_after_a_rotation(
    location: str, tmp_path: Path, vault: Vault, name: str
) -> None:
    """What it wrote before it was cut off is encrypted with the key of that time."""
    source = tmp_path / name
    if name == "plain.jsonl":
        with open_store("memory:", events=TYPES, vault=vault) as store:
            for number in range(1_100):
                store.append("s", [Joined("ada", f"{NAME} {number}")])
            export_events(store, source, plaintext=True)
    else:
        rows = [f"s,{n + 1_000_000},ada,{NAME} {n}\n" for n in range(1_100)]
        source.write_text("".join(["stream,recorded_at,player,name\n", *rows]), "utf-8")
    chosen = (
        Csv(type=None, constant_type="Joined", time_format="s") if name != "plain.jsonl" else None
    )

    def cut_off(progress: ExchangeProgress) -> None:
        if progress.stage == "writing":
            raise SystemExit

    with open_store(location, events=TYPES, vault=vault) as store:
        with pytest.raises(SystemExit):
            import_events(store, source, chosen, progress=cut_off)
        written = (store.head()).position
        assert 0 < written < 1_100
        vault.rotate("ada")
        report = import_events(store, source, chosen)
        assert (report.repeated, report.written) == (written, 1_100 - written)
        found = [event.name for event in _all(store)]
        assert found == [f"{NAME} {number}" for number in range(1_100)]


def test_commands_are_exported_as_events_are(location: str, tmp_path: Path, vault: Vault) -> None:
    files = tmp_path / "files"
    files.mkdir()
    second = Vault(tmp_path / "second.vault", vault.keys)
    with open_store(location, events=TYPES, vault=vault) as store:
        bus = CommandBus(store, decisions)
        bus.send(Join("eve", "Eve"))
        store.forget("eve")
        bus.send(Join("ada", NAME))
        ada = Query().stream("player-ada")
        export_events(store, files / "sealed.jsonl")
        export_events(store, files / "sealed-part.jsonl", query=ada)
        assert not _traces(files)
        export_events(store, files / "plain.jsonl", plaintext=True)
        export_events(store, files / "plain-part.jsonl", query=ada, plaintext=True)
        lines = (files / "plain.jsonl").read_text().splitlines()
        said = [json.loads(json.loads(line).get("ewcommitextras", "null")) for line in lines]
        assert said == [
            {"command": {"type": "Join", "data": {"player": "eve", "name": {"$erased": "eve"}}}},
            None,
            {"command": {"type": "Join", "data": {"player": "ada", "name": _personal(NAME)}}},
        ]
        for name, key in [
            ("sealed", vault),
            ("sealed-part", vault),
            ("plain", second),
            ("plain-part", second),
        ]:
            file = tmp_path / f"{name}.db"
            with open_store(file, events=TYPES, vault=key) as copy:
                for written in (True, False):
                    report = import_events(copy, files / f"{name}.jsonl")
                    assert (report.repeated == 0) is written
                found = {e.stream: command_of(e) for e in copy.read()}
                restored = {s: decisions.restored(c) for s, c in found.items() if c is not None}
                assert restored.pop("player-ada") == Join("ada", NAME)
                assert list(restored.values()) == [Join("eve", Erased("eve"))] * len(restored)
        with open_store("memory:") as copy:
            with pytest.raises(ImportFormatError, match="no vault"):
                import_events(copy, files / "plain.jsonl")
        with open_store(tmp_path / "plain.db", events=TYPES, vault=second) as copy:
            copy.forget("ada")
            (event,) = [e for e in copy.read(ada)]
            recorded = command_of(event)
            assert recorded is not None
            assert decisions.restored(recorded) == Join("ada", Erased("ada"))
        second.close()
        shutil.rmtree(files)
    assert not _left(tmp_path, location)


def _personal(value: str) -> dict[str, str]:
    return {"$personal": value, "subject": "ada"}


@pytest.mark.slow
@pytest.mark.parametrize("test", contract_tests(SqliteEngine.capabilities), ids=repr)
def test_contract_with_a_vault(test: ContractTest, tmp_path: Path, vault: Vault) -> None:
    def opening(clock: Clock) -> EmbeddedBackend:
        return EmbeddedBackend(SqliteEngine(tmp_path / "store.db", clock=clock))

    before = Store.__init__

    def with_vault(self: Store, *arguments: Any, **options: Any) -> None:
        before(self, *arguments, **{"vault": vault, **options})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "__init__", with_vault)
        test.run(opening)
