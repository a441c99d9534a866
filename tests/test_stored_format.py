"""What is stored of an event is fixed to the last byte: files, copies and proofs rest on it.

The texts and digests here were written by the first version that had the format. A change that
alters one of them is a change of the format, and needs a way to read what lies in files.
"""

from __future__ import annotations

import datetime as dt
import zlib
from hashlib import sha256
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest

from everwhen import Commit, Event, EventTypes, NewEvent, UnknownEvent, Write, open_store
from everwhen.privacy import PLAINTEXT, Erased, Personal, Vault, WrappedKey
from everwhen.vocabulary.contract import MAX_SLICE_BYTES

COMMIT = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
WHEN = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)


class Placed(Event):
    tag_fields = ("player",)

    player: str
    amount: int


class Noted(Event):
    text: str


class Joined(Event):
    """All that is personal is its own, and of one subject."""

    data_subject: ClassVar[str] = "player"
    tag_fields = ("player",)

    player: str
    name: Personal[str]
    email: Personal[str] | None = None


class Contact(msgspec.Struct, frozen=True):
    data_subject: ClassVar[str] = "who"

    who: int
    phone: Personal[str]


class Registered(Event):
    """Personal data inside other data, and of several subjects."""

    data_subject: ClassVar[str] = "player"

    player: str
    name: Personal[str]
    contacts: list[Contact] = []  # noqa: RUF012 (msgspec copies it)


class Packed:
    """A step of a user's own."""

    def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        return msgspec.json.encode([type_name, schema_version, event_id, zlib.adler32(data)])

    def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        raise NotImplementedError


class KnownKeys:
    """A provider by which each subject's key is the same each time."""

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        return WrappedKey("known", sha256(context).digest())

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        return wrapped.content


def bodies(
    events: list[Any], *, steps: tuple[Any, ...] = (), encrypted: bool = True
) -> list[bytes]:
    """What is stored of events that are the second and later ones of a commit."""
    types = EventTypes(Placed, Noted, Joined, Registered)
    writes = (Write("game-0", [Noted("first")]), Write("game-1", events))
    with Vault(":memory:", KnownKeys()) as keys:
        vault = keys if encrypted else PLAINTEXT
        with open_store("memory:", events=types, steps=steps, vault=vault) as store:
            store.commit(Commit(writes, id=COMMIT))
            return [part.body for part in store.kernel.backend.stored_commit(COMMIT.bytes)[1:]]


PLACED = Placed("ann", 5)
JOINED = Joined("ann", "Ann Lovelace", "ann@example.org")
NAMELESS = Joined("ann", "Ann", None)
REGISTERED = Registered("ann", "Ann", [Contact(7, "555-1234"), Contact(7, "555-99")])
NEW = NewEvent(
    event=JOINED, tags=("vip",), occurred_at=WHEN, event_id='mine "1"', extras={"by": "hand"}
)
MARKED = UnknownEvent("X", {"who": {"$personal": ["Ann"], "subject": "ann"}, "n": 1}, 3)

TEXTS: dict[str, tuple[list[Any], str]] = {
    "one": (
        [PLACED],
        ('[["Placed",1,{"player":"ann","amount":5},["player:ann"]]]'),
    ),
    "with all that goes along": (
        [
            NewEvent(
                event=PLACED, tags=("vip",), occurred_at=WHEN, event_id="a/b", extras={"x": [1]}
            ),
            Noted(""),
        ],
        (
            '[["Placed",1,{"player":"ann","amount":5},["player:ann","vip"],{"id":"a/b","occur'
            'red_at":"2026-07-01T12:00:00Z","extras":{"x":[1]}}],["Noted",1,{"text":""}]]'
        ),
    ),
    "one personal": (
        [JOINED],
        (
            '[["Joined",1,{"player":"ann","name":{"$sealed":"AQAAAAFuRUdMXWAqkRt8L8UgNtoITaHl'
            'F1U9bnMAYQaEqZxpbpMKBtTcmG85hj1sAvqVpLwLAChKfELbxJP+3TRlKQ==","subject":"ann"},"'
            'email":{"$sealed":1,"subject":"ann"}},["player:ann"]]]'
        ),
    ),
    "personal data within": (
        [REGISTERED],
        (
            '[["Registered",1,{"player":"ann","name":{"$sealed":"AQAAAAEkxoAJsqEDWzpyVt91++9G'
            'vguwXKb9+bA2p9lTv2zOuUNb6A==","subject":"ann"},"contacts":[{"who":7,"phone":{"$s'
            'ealed":"AQAAAAGQp/cEEzrcAo42epUeVbSU5caqHyIf5GlZL/hG5xtm7g/Vu0mm5RQCRmYwrd/VJliD'
            '","subject":"7"}},{"who":7,"phone":{"$sealed":1,"subject":"7"}}]}]]'
        ),
    ),
    "marked": (
        [MARKED, UnknownEvent("Joined", {"player": "ann", "name": "A", "email": None})],
        (
            '[["X",3,{"who":{"$sealed":"AQAAAAGv150JZnQ3FuaQzoPqOkwbXN6Quj00+6Mc1dibcMc/iPjYp'
            '2pr","subject":"ann"},"n":1}],["Joined",1,{"player":"ann","name":{"$sealed":"AQA'
            'AAAHe3xOVD8Kd6/6e7pgLUKwcThdAT4kdcvyFz6EPZYLweyc=","subject":"ann"},"email":null'
            "}]]"
        ),
    ),
}

LARGE = "x" * (MAX_SLICE_BYTES // 4 - 40)
DIGESTS: dict[str, tuple[list[Any], dict[str, Any], list[int], str]] = {
    "many": (
        [PLACED, Noted("ü"), PLACED],
        {},
        [139],
        "40e093ea31fb5777cce1f6214d40cfaa8cd5bac7c2e1af38df2a62147a65879f",
    ),
    "plain data": (
        [UnknownEvent("X", {"a": [1, 2.5, None]}, 2)],
        {},
        [28],
        "eb33ad54976b679577ecbee77bce274c3834bab1cd5c7a3eef9bf609b15e2d80",
    ),
    "many personal": (
        [JOINED, Noted("x"), NAMELESS, Joined("bob", "Bob", "b@example.org"), JOINED],
        {},
        [801],
        "6419356f6b5271d0f795e466071acba55cf465ee534d3d3dc3f29104d48cff41",
    ),
    "personal data within, among others": (
        [REGISTERED, JOINED],
        {},
        [520],
        "12dc475165820286ed58e7e0824105bbdd71aecc06444222aca4508b11b21ce4",
    ),
    "erased before": (
        [Joined("ann", Erased("ann"), "a@example.org"), JOINED],
        {},
        [391],
        "d878c76e012aca1302a89c61f7a326c52bd015d19968edca34dc0db7ea1405e2",
    ),
    "personal with all that goes along": (
        [NEW],
        {},
        [300],
        "2b53f686bafde7a09a051724132476dc7c5379ef5107ce1c5dbe31d213161bff",
    ),
    "a step, and encryption before it": (
        [PLACED, JOINED, NEW],
        {"steps": (Packed(),)},
        [337],
        "d78cbd186fbb0eb2f00a0d387767217f5a67b20adf6ca987a46184a35f1c55f4",
    ),
    "a step alone": (
        [PLACED, NEW],
        {"steps": (Packed(),), "encrypted": False},
        [245],
        "eda10865bf8e1961236c2d744e25bdd42bd2195f9d4ef6bebd5f241c47fc0bdc",
    ),
    "more events than a slice takes": (
        [PLACED] * 2100,
        {},
        [56001, 56001, 5601],
        "bcafde98ca3f99c97a92b941757d3d2eb8bb0226201b175bc0bfda45416bffed",
    ),
    "more bytes than a slice takes": (
        [Noted(LARGE)] * 9,
        {},
        [1048513, 1048513, 262129],
        "b1ebfbf83f3b6d53cc0ee245cc93b45aa4d95d075426202ec734412a4456b022",
    ),
    "just as many bytes as a slice takes": (
        [Noted("y" * (MAX_SLICE_BYTES // 2 - 25))] * 2 + [Noted("z")],
        {},
        [1048575, 26],
        "34529ab8f1b5cbda6b86d6aa97b1fc59bccd7d811da21394ed41e4a8ba9c6197",
    ),
    "more personal data than a slice takes": (
        [Joined("ann", LARGE)] * 5,
        {},
        [699241, 699241, 349621],
        "7234dec30cc9098a10002c31efef61b7cf2c453fcd3159f3921e79d2a10d80f0",
    ),
    "more personal events than a slice takes": (
        [JOINED] * 1001,
        {},
        [213001, 214],
        "28aa1a8078aa31949a4f8ff52bca924c0d5d55378516ddcfc1849209d87828cf",
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_this_is_what_is_stored(case: str) -> None:
    events, stored = TEXTS[case]
    assert b"".join(bodies(events)).decode() == stored


@pytest.mark.parametrize("case", DIGESTS)
def test_this_is_the_digest_of_what_is_stored(case: str) -> None:
    events, options, sizes, digest = DIGESTS[case]
    found = bodies(events, **options)
    assert [len(body) for body in found] == sizes
    assert sha256(b"|".join(found)).hexdigest() == digest
