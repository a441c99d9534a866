"""Messages on a stream of bytes: a few header lines, an empty one, and JSON of a given length."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import msgspec

MAX_BODY_BYTES: Final = 8_000_000
"""The longest message that is read."""

_MAX_LINE_BYTES: Final = 256
"""The longest header line that is read; the protocol's own have some 40."""

_MAX_HEADERS: Final = 8
"""The protocol has two headers; a client may send a few more."""

_LENGTH: Final = re.compile(rb"content-length: *([0-9]{1,10})", re.IGNORECASE)
_OTHER: Final = re.compile(rb"content-type: *[ -~]*", re.IGNORECASE)


class MalformedMessageError(Exception):
    """Malformed input: the stream is not the protocol's, and can't be read any further."""


class Readable(Protocol):
    """Where bytes come from."""

    def readline(self, size: int, /) -> bytes:
        """A line, or at most ``size`` bytes of it."""
        ...

    def read(self, size: int, /) -> bytes:
        """So many bytes; fewer at the end."""
        ...


def read_body(stream: Readable) -> bytes | None:
    """The next message's JSON; None at the end. Raises `MalformedMessageError`.

    Headers other than the protocol's own are refused, so that nothing that speaks another
    protocol, such as a browser, is ever understood.
    """
    length: int | None = None
    for _ in range(_MAX_HEADERS):
        line = stream.readline(_MAX_LINE_BYTES)
        if not line:
            return None
        if not line.endswith(b"\n"):
            raise MalformedMessageError(f"a header begins with {line[:40]!r} and doesn't end")
        line = line.rstrip(b"\r\n")
        if not line and length is not None:
            return _exactly(stream, length)
        match = _LENGTH.fullmatch(line)
        if match is not None and length is None:
            length = int(match[1])
        elif _OTHER.fullmatch(line) is None:
            raise MalformedMessageError(f"no header of the protocol: {line[:40]!r}")
    raise MalformedMessageError(f"more than {_MAX_HEADERS} headers")


def _exactly(stream: Readable, length: int) -> bytes | None:
    if length > MAX_BODY_BYTES:
        raise MalformedMessageError(
            f"a message of {length:,} bytes; {MAX_BODY_BYTES:,} are allowed"
        )
    body = stream.read(length)
    return body if len(body) == length else None


def framed(message: Any) -> bytes:
    """The message as it is sent."""
    body = msgspec.json.encode(message)
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
