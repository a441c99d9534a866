"""Signed notes: the published example, our own keys, and what must be refused."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from tests.verify.logs import Log, policy_text

from everwhen_verify.checkpoints import Checkpoint, parse_checkpoint
from everwhen_verify.errors import MalformedError, PolicyError, SignatureError, VerifyError
from everwhen_verify.merkle import EMPTY_ROOT
from everwhen_verify.notes import (
    MAX_NOTE,
    Kind,
    Note,
    Signer,
    Verifier,
    open_note,
    parse_note,
    sign_note,
)
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import parse_proof
from everwhen_verify.rollover import open_rollovers, sign_rollover

# The example of C2SP signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONnc"
    "AlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# The example of C2SP tlog-cosignature: a checkpoint, whose keys it doesn't tell.
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oy"
    "in1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()

SIGNER = Signer("shop.example/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))
WITNESS = Signer(
    "w.example", Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32), Kind.COSIGNATURE
)
TEXT = Checkpoint("shop.example/log", 0, EMPTY_ROOT).text


def test_the_published_example() -> None:
    verifier = Verifier.parse(VKEY)
    opened = open_note(EXAMPLE, [verifier])
    assert opened.text == "This is an example message.\n"
    assert [one.verifier for one in opened.verified] == [verifier]
    assert verifier.vkey == VKEY
    assert parse_note(EXAMPLE).encode() == EXAMPLE


def test_the_published_checkpoint() -> None:
    note = parse_note(COSIGNED)
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == note.text
    assert [one.name for one in note.signatures] == [
        "example.com/behind-the-sofa",
        "witness.example.com/w1",
    ]
    assert int.from_bytes(note.signatures[1].body[:8]) == 1679315147
    assert len(note.signatures[1].body) == 72


def test_keys_go_to_text_and_back() -> None:
    for signer in (SIGNER, WITNESS, Signer.generate("a/ü")):
        assert Signer.parse(signer.skey).skey == signer.skey
        assert Verifier.parse(signer.verifier.vkey) == signer.verifier
        assert signer.skey.split("+", 4)[4] not in repr(signer)


def test_a_cosignature_has_its_time() -> None:
    note = sign_note(TEXT, SIGNER, WITNESS, time=1_700_000_000)
    opened = open_note(note, [WITNESS.verifier, SIGNER.verifier])
    assert [one.time for one in opened.verified] == [None, 1_700_000_000]
    later = bytearray(parse_note(note).signatures[1].body)
    later[7] ^= 1
    changed = Note(TEXT, (parse_note(note).signatures[1]._replace(body=bytes(later)),))
    with pytest.raises(SignatureError, match="wrong") as raised:
        open_note(changed, [WITNESS.verifier])
    assert raised.value.key == "w.example"
    with pytest.raises(ValueError, match="needs the time"):
        WITNESS.sign(TEXT)


@pytest.mark.attack("signatures are stripped, wrong, or a stranger's")
def test_stripped_foreign_and_wrong_signatures_are_told_apart() -> None:
    stranger = Signer.generate("stranger.example")
    with pytest.raises(SignatureError, match=r"only by stranger\.example") as raised:
        open_note(sign_note(TEXT, stranger), [SIGNER.verifier])
    assert raised.value.key is None
    assert raised.value.strangers == ("stranger.example",)
    with pytest.raises(MalformedError):
        open_note(TEXT.encode() + b"\n", [SIGNER.verifier])
    wrong = Note(TEXT.replace("\n0\n", "\n1\n"), parse_note(sign_note(TEXT, SIGNER)).signatures)
    with pytest.raises(SignatureError, match=r"of shop\.example/log is wrong"):
        open_note(wrong, [SIGNER.verifier])


def test_a_wrong_signature_of_a_known_key_spoils_a_note_that_others_signed() -> None:
    good = SIGNER.sign(TEXT)
    wrong = WITNESS.sign(TEXT, 5)._replace(body=bytes(72))
    with pytest.raises(SignatureError, match=r"w\.example"):
        open_note(Note(TEXT, (good, wrong)), [SIGNER.verifier, WITNESS.verifier])
    assert len(open_note(Note(TEXT, (good, wrong)), [SIGNER.verifier]).unverified) == 1


def test_a_key_of_the_same_name_or_id_is_another_key() -> None:
    twin = Signer.generate(SIGNER.name)
    opened = open_note(sign_note(TEXT, twin, SIGNER), [SIGNER.verifier])
    assert [one.verifier for one in opened.verified] == [SIGNER.verifier]
    assert [one.key_id for one in opened.unverified] == [twin.verifier.key_id]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n\xe2\x80\x94 na+me AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94  AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAAA",
        b"text\n\n\xe2\x80\x94 name AAAAAAB=\n",
        b"text\n\n\xe2\x80\x94 name AAAA AAAA\n",
        b"text\n\n- name AAAAAAAA\n",
        b"te\txt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"te\rxt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"te\xffxt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"text\n\n" + b"\xe2\x80\x94 name AAAAAAAA\n" * 101,
        b"x" * MAX_NOTE + b"\n\n\xe2\x80\x94 name AAAAAAAA\n",
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_note(note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+530d903a",
        "name+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AQ==",
        "exa mple+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "exa\ud800mple+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "é+é+é",
    ],
)
def test_what_is_no_key_is_refused(vkey: str) -> None:
    with pytest.raises(MalformedError):
        Verifier.parse(vkey)
    with pytest.raises(MalformedError):
        Signer.parse(f"PRIVATE+KEY+{vkey}")


def points_of_small_order() -> list[bytes]:
    """Every encoding that decodes to one: by RFC 8032, and by heights that are not reduced."""
    p = 2**255 - 19
    d = -121665 * pow(121666, p - 2, p) % p
    eighth = next(
        root
        for root_of_1_d in (square_root(1 + d), -square_root(1 + d))
        if (root := square_root((root_of_1_d - 1) * pow(d, p - 2, p)))
    )
    either_side = [0, p, eighth, p - eighth]
    found = [y | side << 255 for y in either_side for side in (0, 1)] + [1, p + 1, p - 1]
    return [y.to_bytes(32, "little") for y in found]


def square_root(square: int) -> int:
    """Modulo 2**255 - 19; 0 where there is none."""
    p = 2**255 - 19
    root = pow(square, (p + 3) // 8, p)
    return next(
        (r for r in (root, root * pow(2, (p - 1) // 4, p) % p) if (r * r - square) % p == 0), 0
    )


def test_there_are_eleven_keys_that_belong_to_nobody() -> None:
    assert len(set(points_of_small_order())) == 11
    nobody = (1).to_bytes(32, "little")
    forged = nobody + bytes(32)
    Ed25519PublicKey.from_public_bytes(nobody).verify(forged, b"whatever")  # nobody signed it


@pytest.mark.attack(
    "a key that anyone can sign for (of small order)",
    about="signatures",
    answer="it is refused where it is read",
)
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("point", points_of_small_order(), ids=bytes.hex)
def test_a_key_that_belongs_to_nobody_is_refused(point: bytes, kind: Kind) -> None:
    """In a policy, as a witness, as a log's key: wherever a key is read."""
    with pytest.raises(MalformedError, match="anyone can sign"):
        Verifier("a", kind, point)
    material = bytes([kind]) + point
    key_id = sha256(b"a\n" + material).hexdigest()[:8]
    vkey = f"a+{key_id}+{b64encode(material).decode()}"
    line = f"log {vkey}" if kind is Kind.ED25519 else f"witness a {vkey}"
    with pytest.raises(PolicyError, match=r"line 1: .*anyone can sign"):
        Policy.parse(f"{line}\nquorum none\n".encode())
    text = f"everwhen-rollover/v1\na\n{SIGNER.verifier.vkey}\n{vkey}\n0\n1\n"
    with pytest.raises(MalformedError, match="anyone can sign"):
        open_rollovers(sign_note(text, SIGNER))


@pytest.mark.parametrize(
    ("disguised", "why"),
    [
        (lambda data: b"\xef\xbb\xbf" + data, "byte order mark"),
        (lambda data: data.replace(b"\n", b"\r\n"), "CRLF"),
    ],
)
def test_what_an_editor_has_changed_is_told(disguised: Callable[[bytes], bytes], why: str) -> None:
    log = Log.of(2)
    rollover = sign_rollover(SIGNER.name, SIGNER, Signer.generate(SIGNER.name), 1, 1)
    for read, data in (
        (parse_note, log.signed()),
        (parse_proof, log.proof(1).encode()),
        (Policy.parse, policy_text(log)),
        (open_rollovers, rollover),
    ):
        read(data)
        with pytest.raises(VerifyError, match=why):
            read(disguised(data))


def test_an_error_about_a_private_key_does_not_tell_it() -> None:
    for broken in (SIGNER.skey[:-1], SIGNER.skey.replace("log", "lag"), SIGNER.skey[1:]):
        with pytest.raises(MalformedError) as raised:
            Signer.parse(broken)
        assert SIGNER.skey.split("+")[-1][5:-5] not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "a\n1\nAAAA\n",
        "a\n01\n" + TEXT.split("\n")[2] + "\n",
        "a\n-1\n" + TEXT.split("\n")[2] + "\n",
        "a\n9223372036854775808\n" + TEXT.split("\n")[2] + "\n",
        "\n1\n" + TEXT.split("\n")[2] + "\n",
        "a\n1\n" + TEXT.split("\n")[2] + "\n\n",
        "a\n1\n" + TEXT.split("\n")[2],
        "a\n\u0661\n" + TEXT.split("\n")[2] + "\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    try:
        note = parse_note(data)
    except VerifyError:
        return
    assert parse_note(note.encode()) == note


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(at: int, change: int) -> None:
    changed = bytearray(EXAMPLE)
    changed[at] ^= change
    with pytest.raises(VerifyError):
        open_note(bytes(changed), [Verifier.parse(VKEY)])
