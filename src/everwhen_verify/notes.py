"""Texts with signatures, as in C2SP signed-note and tlog-cosignature.

A note is a text, an empty line, and a line for each signature. A key has a name and an id; who
holds its verifier key (*vkey*, one line of text) can check its signatures. Two kinds of keys are
known: plain Ed25519 ones sign the text; those of witnesses cosign a checkpoint, with the time.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from everwhen_verify.errors import MalformedError, SignatureError, shown

MAX_NOTE: Final = 1_000_000
"""How many bytes a note may have, and below how many signatures: as Go has it."""
MAX_SIGNATURES: Final = 100

_DASH: Final = "\N{EM DASH} "
_PRIVATE: Final = "PRIVATE+KEY+"
_TIME: Final = Struct(">Q")
_MAX_TIME: Final = (1 << 63) - 1
_KEY_SIZE: Final = 32
_BOM: Final = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()
_PRIME: Final = (1 << 255) - 19
_OF_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL: Final = {0, 1, _PRIME - 1, _OF_ORDER_8, _PRIME - _OF_ORDER_8}
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f]")
_NOT_IN_NAMES: Final = re.compile("[\\s\x00-\x1f\ud800-\udfff]")


class Kind(enum.IntEnum):
    """What a key's signatures are: its type byte."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


def encode_base64(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def decode_base64(text: str, what: str) -> bytes:
    """The bytes. Raises `MalformedError` for any other text than `encode_base64` writes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or encode_base64(data) != text:
        raise MalformedError(what, f"{shown(text)} is not base64")
    return data


class Signature(NamedTuple):
    """One signature, not checked: the name and id of its key, and what it says."""

    name: str
    key_id: bytes
    body: bytes

    @property
    def line(self) -> str:
        """Its line in a note, with the newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.body)}\n"


@dataclass(frozen=True)
class Verifier:
    """What checks the signatures of a key."""

    name: str
    kind: Kind
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name, "key")
        if len(self.public_key) != _KEY_SIZE:
            raise MalformedError(
                "key", f"it has {len(self.public_key)} bytes, expected {_KEY_SIZE}"
            )
        if _is_weak(self.public_key):
            raise MalformedError("key", f"the key of {self.name!r} is weak: anyone can sign for it")

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """The verifier of a vkey, ``name+id+base64``. Raises `MalformedError`."""
        if vkey.lstrip().startswith(_PRIVATE):
            raise MalformedError(
                "verifier key",
                "it is a private key, which only its owner may see; give the public key (vkey)",
            )
        name, _, rest = vkey.partition("+")
        written_id, _, encoded = rest.partition("+")
        material = _material(encoded, "verifier key")
        verifier = cls(name, _kind_of(material[0]), material[1:])
        if verifier.key_id.hex() != written_id:
            raise MalformedError("verifier key", f"the id of {shown(name)} does not fit the key")
        return verifier

    @cached_property
    def key_id(self) -> bytes:
        """The first four bytes of a hash over name, kind and key: a hint, no proof."""
        return sha256(b"%s\n%c%s" % (self.name.encode(), self.kind, self.public_key)).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as text, which `parse` reads."""
        material = bytes([self.kind]) + self.public_key
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(material)}"

    def made(self, signature: Signature) -> bool:
        """Whether the signature says that it is by this key."""
        return signature.key_id == self.key_id and signature.name == self.name

    def check(self, text: str, signature: Signature) -> int | None:
        """Check a signature; the time that a cosignature has, in seconds since 1970.

        Raises `SignatureError` with the ``key`` for a wrong one.
        """
        time, message, body = None, text.encode(), signature.body
        if self.kind is Kind.COSIGNATURE:
            if len(body) < _TIME.size:
                raise SignatureError(f"the cosignature of {self.name} is incomplete", self.name)
            (time,) = _TIME.unpack(body[: _TIME.size])
            message, body = cosigned_message(text, time), body[_TIME.size :]
        if not self._signed(message, body) or (time or 0) > _MAX_TIME:
            raise SignatureError(f"the signature of {self.name} is wrong", self.name)
        return time

    def _signed(self, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A private key that signs notes, under a name.

    Its text form is that of Go's ``note.GenerateKey``: anyone who has it can sign.
    """

    def __init__(
        self, name: str, private_key: Ed25519PrivateKey, kind: Kind = Kind.ED25519
    ) -> None:
        self._private_key = private_key
        self.verifier = Verifier(name, kind, private_key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str, kind: Kind = Kind.ED25519) -> Signer:
        """A new key."""
        return cls(name, Ed25519PrivateKey.generate(), kind)

    @classmethod
    def parse(cls, skey: str) -> Signer:
        """The signer of a private key's text. Raises `MalformedError`, which doesn't tell it."""
        parts = skey.strip().split("+", 4)
        if len(parts) != 5 or not skey.lstrip().startswith(_PRIVATE):
            raise MalformedError("private key", f"it is not {_PRIVATE}name+id+base64")
        name, written_id, encoded = parts[2:]
        material = _material(encoded, "private key")
        if len(material) != _KEY_SIZE + 1:
            raise MalformedError("private key", f"it does not have {_KEY_SIZE} bytes")
        private_key = Ed25519PrivateKey.from_private_bytes(material[1:])
        signer = cls(name, private_key, _kind_of(material[0]))
        if signer.verifier.key_id.hex() != written_id:
            raise MalformedError("private key", f"the id of {shown(name)} does not fit the key")
        return signer

    def __repr__(self) -> str:
        return f"Signer({self.verifier.vkey})"

    @property
    def name(self) -> str:
        """The key's name."""
        return self.verifier.name

    @property
    def skey(self) -> str:
        """The private key as text, which `parse` reads. Keep it secret."""
        material = bytes([self.verifier.kind]) + self._private_key.private_bytes_raw()
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{encode_base64(material)}"

    def sign(self, text: str, time: int | None = None) -> Signature:
        """Sign a note's text. A cosignature needs the time, in seconds since 1970."""
        _check_text(text)
        message, stamp = text.encode(), b""
        if self.verifier.kind is Kind.COSIGNATURE:
            if time is None or not 0 < time <= _MAX_TIME:
                raise ValueError("a cosignature needs the time, in seconds since 1970")
            message, stamp = cosigned_message(text, time), _TIME.pack(time)
        body = stamp + self._private_key.sign(message)
        return Signature(self.name, self.verifier.key_id, body)


class Note(NamedTuple):
    """A text, and signatures that nobody has checked."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note's bytes, which `parse_note` reads."""
        return (self.text + "\n" + "".join(one.line for one in self.signatures)).encode()

    def with_signatures(self, more: Iterable[Signature]) -> Note:
        """The note with further signatures after those that it has; each once."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *more))))


class Verified(NamedTuple):
    """A signature that is right: whose it is, and for a cosignature the time."""

    verifier: Verifier
    time: int | None


@dataclass(frozen=True)
class OpenedNote:
    """A note with at least one signature that was checked; those of strangers were not."""

    text: str
    verified: tuple[Verified, ...]
    unverified: tuple[Signature, ...]


def sign_note(text: str, *signers: Signer, time: int | None = None) -> bytes:
    """A note with the signatures of these keys."""
    return Note(text, tuple(signer.sign(text, time) for signer in signers)).encode()


def parse_note(data: bytes) -> Note:
    """Read a note; nothing is checked but its form. Raises `MalformedError`."""
    if len(data) > MAX_NOTE:
        raise MalformedError(
            "note", f"it has {len(data):,} bytes, more than the maximum of {MAX_NOTE:,}"
        )
    check_disguise(data, "note")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise MalformedError("note", "it is not UTF-8") from None
    text, blank, lines = whole.rpartition("\n\n")
    if not blank:
        raise MalformedError("note", "there is no empty line between the text and the signatures")
    text += "\n"
    _check_text(text)
    return Note(text, parse_signatures(lines))


def parse_signatures(lines: str) -> tuple[Signature, ...]:
    """Read signature lines: one or more. Raises `MalformedError`."""
    if not lines.endswith("\n"):
        raise MalformedError("note", "it does not end with a newline")
    found = lines[:-1].split("\n", MAX_SIGNATURES)
    if len(found) > MAX_SIGNATURES:
        raise MalformedError("note", f"it has more than {MAX_SIGNATURES} signatures")
    return tuple(map(_signature, found))


def open_note(data: bytes | Note, verifiers: Iterable[Verifier]) -> OpenedNote:
    """Check the signatures of the keys that are known.

    Raises `MalformedError` for what isn't a note, and `SignatureError` where the signature of a
    known key is wrong, or no known key has signed. Of several signatures by one key the first
    counts.
    """
    note = data if isinstance(data, Note) else parse_note(data)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified: dict[Verifier, int | None] = {}
    unverified: list[Signature] = []
    for signature in note.signatures:
        verifier = known.get((signature.name, signature.key_id))
        if verifier is None:
            unverified.append(signature)
        elif verifier not in verified:
            verified[verifier] = verifier.check(note.text, signature)
    if not verified:
        names = tuple(signature.name for signature in unverified)
        only = f", only by {', '.join(names[:5])}" if names else ""
        raise SignatureError(f"it is not signed by a known key{only}", strangers=names)
    return OpenedNote(
        note.text, tuple(Verified(*item) for item in verified.items()), tuple(unverified)
    )


def cosigned_message(text: str, time: int) -> bytes:
    """What a witness signs of a checkpoint's text."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def disguise(data: bytes) -> str | None:
    """What an editor or a transfer has done to a text that looks the same; None for nothing."""
    if data.startswith(_BOM):
        return "it begins with a byte order mark; save it as UTF-8 without one"
    if b"\r\n" in data:
        return "its lines end with CRLF; save it with newlines (LF) only"
    return None


def check_disguise(data: bytes, what: str) -> None:
    """Raises `MalformedError` for a text with a `disguise`."""
    why = disguise(data)
    if why is not None:
        raise MalformedError(what, why)


def _is_weak(public_key: bytes) -> bool:
    """Whether it is a point of small order, or one that isn't written as the field asks.

    Below a point of small order signatures can be made without a private key, which fit many
    texts. There are five heights of such points; the top bit only says on which side.
    """
    height = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    return height >= _PRIME or height in _SMALL


def _material(encoded: str, what: str) -> bytes:
    try:
        return decode_base64(encoded, what)
    except MalformedError:  # which shows some of it, and that may be the rest of a key
        raise MalformedError(what, "its last part is not base64") from None


def _signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise MalformedError("note", f"{shown(line, 80)} is not a signature line")
    _check_name(name, "note")
    data = decode_base64(encoded, "note")
    if len(data) < 5:
        raise MalformedError("note", f"the signature of {shown(name)} is incomplete")
    return Signature(name, data[:4], data[4:])


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise MalformedError("note", "the text doesn't end with a newline")
    if _CONTROL.search(text):
        raise MalformedError("note", "the text has control characters")


def _check_name(name: str, what: str) -> None:
    if not name or "+" in name or _NOT_IN_NAMES.search(name):
        raise MalformedError(what, f"{shown(name)} is not allowed as a key's name")


def _kind_of(byte: int) -> Kind:
    try:
        return Kind(byte)
    except ValueError:
        raise MalformedError("key", f"keys of type 0x{byte:02x} are not supported") from None
