"""Keys, the vault, and the encryption of fields."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import apsw
import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from everwhen import Event, EventTypes, KeyFile, NewEvent, Personal, UnknownEvent, Vault
from everwhen.codec.codec import Codec
from everwhen.codec.slice_bodies import decode_entries
from everwhen.errors import (
    DeclarationError,
    ErasedSubjectError,
    ExpiredKeyError,
    InvalidEventError,
    MissingKeyError,
    SealedError,
    VaultError,
    WrongKeyError,
)
from everwhen.privacy import Erased, KeyFromEnvironment, WrappedKey
from everwhen.privacy.field_encryption import FieldEncryption
from everwhen.privacy.keys import cipher, keys_in
from everwhen.vocabulary import EventType
from everwhen.vocabulary.personal_data import personal_fields

NOW = datetime(2026, 11, 27, 6, 30, tzinfo=UTC)

# RFC 8452, appendix C.2: key, nonce, plaintext, associated data, result.
VECTORS = [
    ("", "", "07f5f4169bbf55a8400cd47ea6fd400f"),
    ("0100000000000000", "", "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"),
    ("010000000000000000000000", "", "9aab2aeb3faa0a34aea8e2b18ca50da9ae6559e48fd10f6e5c9ca17e"),
    (
        "01000000000000000000000000000000",
        "",
        "85a01b63025ba19b7fd3ddfc033b3e76c9eac6fa700942702e90862383c6c366",
    ),
    ("0200000000000000", "01", "1de22967237a813291213f267e3b452f02d01ae33e4ec854"),
]
KEY, NONCE = b"\x01" + bytes(31), b"\x03" + bytes(11)


class Address(msgspec.Struct, frozen=True):
    city: Personal[str]
    country: str


class Contact(msgspec.Struct, frozen=True):
    data_subject: ClassVar[str] = "who"

    who: str
    phone: Personal[str]


class Registered(Event):
    data_subject: ClassVar[str] = "player"

    player: str
    name: Personal[str]
    email: Personal[str] | None = None
    nicknames: Personal[list[str]] = msgspec.field(default_factory=list)
    address: Address | None = None
    contacts: list[Contact] = msgspec.field(default_factory=list)
    notes: dict[str, Personal[str]] = msgspec.field(default_factory=dict)
    points: int = 0


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile.create(tmp_path / "keys")


@pytest.fixture
def vault(tmp_path: Path, keys: KeyFile) -> Any:
    with Vault(tmp_path / "vault", keys) as opened:
        yield opened


@pytest.mark.parametrize(("plain", "bound", "result"), VECTORS)
def test_the_cipher_gives_the_published_results(plain: str, bound: str, result: str) -> None:
    aad, data = bytes.fromhex(bound), bytes.fromhex(plain)
    assert cipher(KEY).encrypt(NONCE, data, aad).hex() == result
    assert cipher(KEY).decrypt(NONCE, bytes.fromhex(result), aad) == data
    with pytest.raises(InvalidTag):
        cipher(KEY).decrypt(NONCE, bytes.fromhex(result), aad + b"x")


# Declarations


def test_where_personal_data_lies_is_found_by_the_declaration() -> None:
    found = personal_fields(Registered)
    assert found is not None
    assert found.subject == "player"
    assert set(found.fields) == {"name", "email", "nicknames", "address", "contacts", "notes"}
    assert personal_fields(UnknownEvent) is None


def test_declarations_that_can_not_work_are_refused_with_the_fix() -> None:
    class NoSubject(Event):
        name: Personal[str]

    class PersonalSubject(Event):
        data_subject = "name"
        name: Personal[str]

    class NoSuchSubject(Event):
        data_subject = "who"
        name: Personal[str]

    class Tagged(Event):
        data_subject = "player"
        tag_fields = ("name",)
        player: str
        name: Personal[str]

    class OfAStruct(Event):
        data_subject = "player"
        player: str
        address: Personal[Address]

    for cls, fix in (
        (NoSubject, "data_subject"),
        (PersonalSubject, "let it be an id"),
        (NoSuchSubject, "not one of its fields"),
        (Tagged, "take it out of tag_fields"),
        (OfAStruct, "mark the fields"),
    ):
        with pytest.raises(DeclarationError, match=fix):
            EventTypes(cls)


# Encryption


def _codec(vault: Vault) -> Codec:
    return Codec(EventTypes(Registered), (), FieldEncryption(vault))


def _stored(codec: Codec, *events: Any) -> list[Any]:
    return [
        entry
        for part in codec.encode("player-1", list(events), bytes(16), 0)
        for entry in decode_entries(part.body)
    ]


_texts = st.text(max_size=30)


@given(
    st.builds(
        Registered,
        player=st.sampled_from(["ann", "bob", "7"]),
        name=_texts,
        email=st.none() | _texts,
        nicknames=st.lists(_texts, max_size=3),
        address=st.none() | st.builds(Address, city=_texts, country=_texts),
        contacts=st.lists(
            st.builds(Contact, who=st.sampled_from(["ann", "eve"]), phone=_texts), max_size=2
        ),
        notes=st.dictionaries(_texts, _texts, max_size=3),
        points=st.integers(-(1 << 62), 1 << 62),
    )
)
def test_what_is_sealed_comes_back_as_it_was(event: Registered) -> None:
    with Vault(":memory:", _Plain()) as vault:
        codec = _codec(vault)
        (entry,) = _stored(codec, event)
        (again,) = _stored(codec, event)
        assert bytes(entry.data) == bytes(again.data)
        back = codec.decode_steps(entry, f"{'00000000-0000-0000-0000-000000000000'}/0")
        assert codec.types.typed("Registered", 1, back) == event


class _Plain:
    """Wraps nothing: a provider for tests."""

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        return WrappedKey("plain", key)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        return wrapped.content


EVENT = Registered(
    "ann",
    "Ann Lovelace",
    "ann@example.org",
    ["Annie", "Lovey"],
    Address("Paris", "FR"),
    [Contact("eve", "555-1234")],
    {"shoe": "size 38"},
)
PERSONAL = ("Lovelace", "example.org", "Annie", "Paris", "555", "size")
EVENT_ID = "00000000-0000-0000-0000-000000000000/0"


def test_no_plaintext_is_stored_of_personal_fields(vault: Vault) -> None:
    (entry,) = _stored(_codec(vault), EVENT)
    data = bytes(entry.data).decode()
    assert not any(text in data for text in PERSONAL)
    assert '"FR"' in data
    assert vault.subjects() == ["ann", "eve"]


def test_a_nested_struct_may_belong_to_somebody_else(vault: Vault) -> None:
    codec = _codec(vault)
    (entry,) = _stored(codec, EVENT)
    vault.forget("eve")
    back = codec.types.typed("Registered", 1, codec.decode_steps(entry, EVENT_ID))
    assert back.name == "Ann Lovelace"
    assert back.contacts[0].phone == Erased("eve")


def test_a_ciphertext_that_was_moved_does_not_open(vault: Vault) -> None:
    codec, encryption = _codec(vault), FieldEncryption(vault)
    (entry,) = _stored(codec, EVENT)
    data = bytes(entry.data)
    vault.rotate("ann")
    vault.newest("bob")
    fields = msgspec.json.decode(data)
    swapped = msgspec.json.encode({**fields, "email": fields["name"]})
    other_subject = msgspec.json.encode({**fields, "name": {**fields["name"], "subject": "bob"}})
    raw = bytearray(base64.b64decode(fields["name"]["$sealed"]))
    raw[4] = 2
    other_key = {**fields["name"], "$sealed": base64.b64encode(raw).decode()}
    raw[4], raw[-1] = 1, raw[-1] ^ 1
    altered = {**fields["name"], "$sealed": base64.b64encode(raw).decode()}
    moved = [
        ("Registered", 1, "00000000-0000-0000-0000-000000000000/1", data),
        ("Other", 1, EVENT_ID, data),
        ("Registered", 2, EVENT_ID, data),
        ("Registered", 1, EVENT_ID, swapped),
        ("Registered", 1, EVENT_ID, other_subject),
        ("Registered", 1, EVENT_ID, msgspec.json.encode({**fields, "name": other_key})),
        ("Registered", 1, EVENT_ID, msgspec.json.encode({**fields, "name": altered})),
    ]
    assert b"Ann Lovelace" in encryption.decryptor.data(
        "Registered", 1, EVENT_ID, data, marked=False
    )
    for type_name, version, event_id, content in moved:
        with pytest.raises(SealedError) as caught:
            encryption.decryptor.data(type_name, version, event_id, content, marked=False)
        assert "moved here" in str(caught.value)
        assert not any(text in str(caught.value) for text in PERSONAL)


class Signed(Event):
    data_subject: ClassVar[str] = "player"

    player: str
    name: Personal[str] | None = None
    email: Personal[str] | None = msgspec.field(default=None, name="e-mail")
    since: Personal[int] | msgspec.UnsetType = msgspec.UNSET


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            Signed,
            player=st.sampled_from(["ann", "bob"]),
            name=st.none() | _texts | st.builds(Erased, st.just("ann")),
            email=st.none() | _texts,
            since=st.just(msgspec.UNSET) | st.integers(-9, 9),
        ),
        max_size=4,
    )
)
def test_many_events_are_sealed_together_as_one_by_one(events: list[Signed]) -> None:
    with Vault(":memory:", _Plain()) as vault:
        codec, encryption = (
            Codec(EventTypes(Signed), (), FieldEncryption(vault)),
            FieldEncryption(vault),
        )
        fields = codec.types.personal("Signed", 1)
        assert fields is not None
        for index, (event, entry) in enumerate(zip(events, _stored(codec, *events), strict=True)):
            event_id = f"{EVENT_ID[:-1]}{index}"
            by_json = encryption.encryptor().data(
                "Signed", 1, event_id, msgspec.json.encode(event), fields
            )
            assert msgspec.json.decode(entry.data) == msgspec.json.decode(by_json)
            back = codec.decode_steps(entry, event_id)
            assert codec.types.typed("Signed", 1, back) == event


def test_values_can_not_change_places_nor_be_left_out_or_doubled(vault: Vault) -> None:
    codec, encryption = _codec(vault), FieldEncryption(vault)
    (entry,) = _stored(codec, EVENT)
    fields = msgspec.json.decode(entry.data)
    other: dict[str, Any] = {**fields, "name": fields["email"], "email": fields["name"]}
    numbered = {**fields, "nicknames": {**fields["nicknames"], "$sealed": 1}}
    out = {name: value for name, value in fields.items() if name != "email"}
    headless = {**fields, "name": None}
    moved = {**out, "mail": fields["email"]}
    for faulty in (other, numbered, out, headless, moved, {**fields, "mail": fields["email"]}):
        with pytest.raises(SealedError, match="moved here"):
            encryption.decryptor.data(
                "Registered", 1, EVENT_ID, msgspec.json.encode(faulty), marked=False
            )


def test_the_same_goes_for_a_type_whose_values_are_opened_together(vault: Vault) -> None:
    codec = Codec(EventTypes(Signed), (), FieldEncryption(vault))
    (entry,) = _stored(codec, Signed("ann", "Ann Lovelace", "ann@example.org", 1815))
    assert b"Ann Lovelace" in codec.decode_steps(entry, EVENT_ID)
    fields = msgspec.json.decode(entry.data)
    name, mail = fields["name"], fields["e-mail"]
    faulty = [
        {**fields, "name": mail, "e-mail": name},
        {**fields, "e-mail": {**mail, "$sealed": 2}, "since": {**mail, "$sealed": 1}},
        {**fields, "since": {**fields["since"], "subject": "bob"}},
        {**fields, "copy": mail},
        {**fields, "copy": name},
        {key: value for key, value in fields.items() if key != "since"},
        {**fields, "name": {**name, "$sealed": 0}},
    ]
    for content in faulty:
        moved = msgspec.structs.replace(entry, data=msgspec.Raw(msgspec.json.encode(content)))
        with pytest.raises(SealedError, match="moved here"):
            codec.decode_steps(moved, EVENT_ID)
    with pytest.raises(SealedError, match="moved here"):
        codec.decode_steps(entry, f"{EVENT_ID[:-1]}7")
    vault.forget("ann")
    back = codec.types.typed("Signed", 1, codec.decode_steps(entry, EVENT_ID))
    assert back == Signed("ann", Erased("ann"), Erased("ann"), Erased("ann"))


def test_a_tag_with_a_personal_value_is_refused_without_showing_it(vault: Vault) -> None:
    class Tagging(Event):
        data_subject: ClassVar[str] = "player"
        player: str
        name: Personal[str]

    codec = Codec(EventTypes(Tagging), (), FieldEncryption(vault))
    for tag in ("name:Ann", "Ann"):
        with pytest.raises(InvalidEventError, match="tag it with an id") as caught:
            codec.encode("s", [NewEvent(event=Tagging("1", "Ann"), tags=(tag,))], bytes(16), 0)
        assert "Ann" not in str(caught.value)
    codec.encode("s", [NewEvent(event=Tagging("1", "Ann"), tags=("Annapolis",))], bytes(16), 0)
    tagged = EventType(Tagging, tags=lambda event: (f"name:{event.name}",))
    codec = Codec(EventTypes(tagged), (), FieldEncryption(vault))
    for count in (1, 2):
        with pytest.raises(InvalidEventError, match="tag it with an id"):
            codec.encode("s", [Tagging("1", "Ann")] * count, bytes(16), 0)


def test_a_tag_may_say_what_is_in_the_open_anyway(vault: Vault) -> None:
    class Moved(Event):
        data_subject: ClassVar[str] = "player"
        tag_fields: ClassVar[tuple[str, ...]] = ("player",)

        player: str
        name: Personal[str]
        notes: dict[str, Personal[str]]

    codec = Codec(EventTypes(Moved), (), FieldEncryption(vault))
    event = NewEvent(event=Moved("anna", "anna", {"of": "anna/7"}), tags=("by:ann",))
    assert codec.encode("s", [event], bytes(16), 0)[0].tags == ("player:anna", "by:ann")
    for tag in ("anna/7", "of:anna/7", "x:anna/7/2", "annabel"):
        with pytest.raises(InvalidEventError, match="tag it with an id"):
            codec.encode("s", [msgspec.structs.replace(event, tags=(tag,))], bytes(16), 0)


def test_a_tag_of_an_event_that_is_a_list_in_json_is_judged_alike(vault: Vault) -> None:
    class Listed(Event, array_like=True):
        data_subject: ClassVar[str] = "player"

        player: str
        name: Personal[str]

    codec = Codec(EventTypes(Listed), (), FieldEncryption(vault))
    same = NewEvent(event=Listed("anna", "anna"), tags=("by:anna",))
    assert codec.encode("s", [same], bytes(16), 0)[0].tags == ("by:anna",)
    other = NewEvent(event=Listed("1", "anna"), tags=("by:anna",))
    with pytest.raises(InvalidEventError, match="tag it with an id"):
        codec.encode("s", [other], bytes(16), 0)


class Counting(FieldEncryption):
    """Counts whose newest keys are looked up."""

    def __init__(self, vault: Vault) -> None:
        super().__init__(vault)
        self.asked: list[str] = []

    def newest_key(self, subject: str) -> Any:
        self.asked.append(subject)
        return super().newest_key(subject)


def test_a_key_is_looked_up_once_for_a_whole_commit(vault: Vault) -> None:
    encryption = Counting(vault)
    codec = Codec(EventTypes(Signed, Registered), (), encryption)
    events = [Signed(who, "Name", "mail") for who in ("ann", "bob", "ann", "bob")]
    (together,) = codec.encode("s", [*events, EVENT], bytes(16), 0)
    assert encryption.asked == ["ann", "bob", "eve"]
    apart = [codec.encode("s", [e], bytes(16), i)[0] for i, e in enumerate([*events, EVENT])]
    assert together.body == b"[%b]" % b",".join(part.body[1:-1] for part in apart)
    news = [NewEvent(event=event) for event in events]
    assert [e.data for e in _stored(codec, *news)] == [e.data for e in _stored(codec, *events)]


def test_what_looks_sealed_is_refused(vault: Vault) -> None:
    codec = _codec(vault)
    with pytest.raises(InvalidEventError, match="name yours otherwise"):
        codec.encode("s", [UnknownEvent("X", {"a": [{"$sealed": "x"}]})], bytes(16), 0)
    codec.encode("s", [UnknownEvent("X", {"a": "$sealed"})], bytes(16), 0)


def test_plain_data_is_sealed_where_it_is_marked_and_read_so(vault: Vault) -> None:
    codec = _codec(vault)
    marked = {"who": {"$personal": "Ann Lovelace", "subject": "ann"}, "n": 1}
    (entry,) = _stored(codec, UnknownEvent("X", marked))
    assert b"Lovelace" not in bytes(entry.data)
    assert msgspec.json.decode(codec.decode_steps(entry, EVENT_ID)) == marked
    vault.forget("ann")
    assert msgspec.json.decode(codec.decode_steps(entry, EVENT_ID)) == {
        "who": {"$erased": "ann"},
        "n": 1,
    }


# The vault


def test_forgetting_takes_what_lies_below_along_and_nothing_else(vault: Vault) -> None:
    for subject in ("ann", "ann/audit/2026-11", "anna", "ann.b", "bob/ann"):
        vault.newest(subject)
    forgotten = vault.forget("ann")
    assert forgotten.subjects == ("ann", "ann/audit/2026-11")
    assert vault.subjects() == ["ann.b", "anna", "bob/ann"]
    assert vault.forget("ann").repeated
    for subject in ("ann", "ann/other"):
        with pytest.raises(ErasedSubjectError):
            vault.newest(subject)
    assert vault.cipher("ann/audit/2026-11", 1) is None
    assert vault.erasures == 1


def test_the_keys_of_the_forgotten_are_in_no_byte_of_the_file(
    tmp_path: Path, keys: KeyFile
) -> None:
    with Vault(tmp_path / "v", keys) as vault:
        vault.newest("ann")
        (wrapped,) = (
            row[0] for row in vault._file.run("SELECT wrapped FROM keys WHERE subject = 'ann'")
        )
        assert wrapped in (tmp_path / "v").read_bytes()
        vault.forget("ann")
        assert wrapped not in (tmp_path / "v").read_bytes()
    assert os.stat(tmp_path / "v").st_mode & 0o777 == 0o600  # noqa: PTH116
    assert not (tmp_path / "v-journal").exists()


def _by_sql(vault: Vault, sql: str, *rows: tuple[Any, ...]) -> None:
    """What somebody does past Everwhen; a vault that is open notices it a moment later."""
    with contextlib.closing(apsw.Connection(str(vault.path))) as connection:
        connection.executemany(sql, rows or [()])
    vault._look()


ADD_TOMBSTONE = "INSERT OR REPLACE INTO stones VALUES (?, ?, ?)"
ADD_KEY = "INSERT INTO keys VALUES (?, ?, ?, ?, ?)"


@pytest.mark.parametrize("tombstone", ["ann", "ann/audit"])
@pytest.mark.parametrize("number", [0, 1, 2, 70])
def test_forgetting_destroys_keys_that_stand_beside_a_tombstone(
    vault: Vault, tombstone: str, number: int
) -> None:
    for subject in ("ann/audit", "ann/audit/1", "anna", "eve"):
        vault.newest(subject)
    vault.forget("eve")
    _by_sql(vault, ADD_TOMBSTONE, (tombstone, number, 1))
    assert [key.subject for key in vault.leftover_keys()] == ["ann/audit", "ann/audit/1"]
    assert vault.cipher("ann/audit", 1) is None
    assert vault.cipher("ann/audit/1", 1) is None
    assert vault.cipher("anna", 1) is not None
    before = vault.erasures
    forgotten = vault.forget("ann/audit")
    assert forgotten.subjects == ("ann/audit", "ann/audit/1")
    assert (forgotten.number, forgotten.repeated) == (max(before, number) + 1, False)
    assert vault.leftover_keys() == []
    assert vault.subjects() == ["anna"]
    assert vault.erasures == forgotten.number
    again = vault.forget("ann/audit")
    assert (again.repeated, again.subjects) == (True, ())


def test_keys_that_are_restored_beside_a_tombstone_are_not_used_and_are_destroyed(
    vault: Vault,
) -> None:
    for subject in ("ann", "ann/audit"):
        vault.newest(subject)
    rows = vault._file.run("SELECT * FROM keys WHERE subject LIKE 'ann%'")
    sealed = vault.seal_snapshot(b"state", b"bound")
    vault.forget("ann")
    _by_sql(vault, ADD_KEY, *rows)
    assert vault.cipher("ann", 1) is None
    with pytest.raises(ErasedSubjectError):
        vault.newest("ann/audit")
    fresh = vault.seal_snapshot(b"state", b"bound")
    assert vault.forget("ann").subjects == ("ann", "ann/audit")
    assert vault.open_snapshot(sealed, b"bound") is None
    assert vault.open_snapshot(fresh, b"bound") is None
    wrapped = [row[3] for row in rows]
    assert not any(one in vault.path.read_bytes() for one in wrapped)


def test_another_process_sees_what_was_forgotten(tmp_path: Path, keys: KeyFile) -> None:
    with Vault(tmp_path / "v", keys) as here, Vault(tmp_path / "v", keys) as there:
        here.newest("ann")
        assert there.cipher("ann", 1) is not None
        here.forget("ann")
        deadline = threading.Event()
        deadline.wait(0.05)
        assert there.cipher("ann", 1) is None
        assert there.erasures == 1


def test_keys_rotate_and_what_was_encrypted_stays_readable(vault: Vault, keys: KeyFile) -> None:
    codec = _codec(vault)
    (entry,) = _stored(codec, EVENT)
    first = keys.keys()[0].id
    new = keys.add()
    assert vault.rewrap() == 3
    assert vault.wrapped_with() == {new.id: 3}
    keys.keep_only(new.id)
    assert vault.rotate("ann") == 2
    with Vault(vault.path, keys) as again:
        decryptor = FieldEncryption(again).decryptor
        back = decryptor.data("Registered", 1, EVENT_ID, bytes(entry.data), marked=False)
        assert b"Ann Lovelace" in back
        assert again.newest("ann")[0] == 2
    assert first != new.id


def test_wrong_missing_and_expired_keys_say_what_is_wrong(tmp_path: Path) -> None:
    keys = KeyFile.create(tmp_path / "k", clock=lambda: NOW, expires_at=NOW + timedelta(days=1))
    with Vault(tmp_path / "v", keys) as vault:
        vault.newest("ann")
    KeyFile.create(tmp_path / "other")
    with Vault(tmp_path / "v", KeyFile(tmp_path / "other")) as vault:
        with pytest.raises(MissingKeyError, match="doesn't have key"):
            vault.newest("ann")
    right = keys.keys()[0]
    wrong = keys_in((tmp_path / "other").read_text(), "x")[0]
    forged = msgspec.structs.replace(wrong, id=right.id)
    (tmp_path / "other").write_text(forged.line)
    with Vault(tmp_path / "v", KeyFile(tmp_path / "other")) as vault:
        with pytest.raises(WrongKeyError):
            vault.newest("ann")
    late = KeyFile(tmp_path / "k", clock=lambda: NOW + timedelta(days=2))
    with Vault(tmp_path / "v", late) as vault:
        assert vault.newest("ann")[0] == 1
        with pytest.raises(ExpiredKeyError, match="stays readable"):
            vault.newest("bob")
        late.add()
        assert vault.newest("bob")[0] == 1
    with pytest.raises(MissingKeyError):
        Vault(tmp_path / "nothing", keys, create=False)
    with pytest.raises(MissingKeyError):
        KeyFile(tmp_path / "none").keys()
    (tmp_path / "k").chmod(0o644)
    with pytest.raises(VaultError, match="chmod 600"):
        keys.keys()
    (tmp_path / "text").write_text("not a vault " * 100)
    with pytest.raises(VaultError):
        Vault(tmp_path / "text", _Plain())


def test_a_lost_key_is_never_taken_for_an_erasure(vault: Vault) -> None:
    codec = _codec(vault)
    (entry,) = _stored(codec, EVENT)
    vault._file.run("DELETE FROM keys WHERE subject = 'ann'")
    vault._ciphers.clear()
    with pytest.raises(SealedError, match="no record that it was forgotten"):
        codec.decode_steps(entry, EVENT_ID)


def test_keys_come_from_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: KeyFile
) -> None:
    monkeypatch.setenv("PEOPLE_KEY", (tmp_path / "keys").read_text())
    with Vault(tmp_path / "v", keys) as vault:
        vault.newest("ann")
    with Vault(tmp_path / "v", KeyFromEnvironment("PEOPLE_KEY")) as vault:
        assert vault.cipher("ann", 1) is not None
    monkeypatch.delenv("PEOPLE_KEY")
    with pytest.raises(MissingKeyError, match="isn't set"):
        KeyFromEnvironment("PEOPLE_KEY").keys()


def test_secrets_show_in_no_text(keys: KeyFile) -> None:
    (key,) = keys.keys()
    assert base64.b64encode(key.secret).decode() not in repr(key)
    (Path(keys.path)).write_text(f"everwhen-key/v1 x y z {base64.b64encode(key.secret).decode()}")
    with pytest.raises(VaultError) as caught:
        keys.keys()
    assert base64.b64encode(key.secret).decode() not in str(caught.value)
