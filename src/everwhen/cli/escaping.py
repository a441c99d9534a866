"""What leaves for a terminal or a pipe: never a character that a terminal obeys, or that hides.

Text comes from everywhere: stores that others wrote or edited, files, arguments, messages of code
that failed. `escaped` is applied where it leaves, and not earlier: to each row and JSON line of
`Output`, to each piece that a console draws, and to whatever else is written to standard output or
standard error. The escapes are those of JSON, so JSON stays JSON and says the same.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import Any, BinaryIO, Final, TextIO, cast

_SHORT: Final = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_UNSAFE: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # controls; C1 ones are escape sequences in one character
    "\xad\u061c\u180e\u200b\u200e\u200f"  # hidden, or turning what follows around
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # likewise, and ends of lines
    "\ud800-\udfff"  # halves of characters: bytes of names that are no text
    "\U000e0000-\U000e007f"  # a hidden copy of ASCII
    "]"
)
"""Not the joiners U+200C and U+200D: languages and emoji need them, and they turn nothing."""
_BEYOND_BMP: Final = 0x10000


def escaped(text: str, *, keeping: str = "") -> str:
    r"""The text with what a terminal obeys, or nobody sees, written out as ``\u001b``.

    Characters in ``keeping`` stay. To escape twice is to escape once.
    """
    if text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keeping else _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < _BEYOND_BMP:
        return _SHORT.get(character, f"\\u{code:04x}")
    high, low = divmod(code - _BEYOND_BMP, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


class EscapedStream:
    """A text stream that escapes what is written to it, except ends of lines and tabs.

    Bytes written to its ``buffer`` are data, and stay as they are. Rich's consoles write past it:
    their escape sequences are their own.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write the text, escaped; returns its length."""
        self.rich_proxied_file.write(escaped(text, keeping="\n\t"))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write the texts, escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


class _TextFor(io.RawIOBase):
    """A file for text in UTF-8, of any pieces, which goes to a text stream."""

    name = "<stdout>"

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = escaping(stream)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(self._decode(bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


def for_people(stream: TextIO) -> BinaryIO:
    """A file to write data to that people look at in a terminal: it is escaped, by lines."""
    return cast("BinaryIO", _TextFor(stream))


def escaping(stream: TextIO) -> TextIO:
    """The stream, escaping what is written to it."""
    return cast("TextIO", EscapedStream(stream))


def unescaping(stream: TextIO) -> TextIO:
    """The stream under it: for escape sequences of our own."""
    return getattr(stream, "rich_proxied_file", stream)
