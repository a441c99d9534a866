"""What leaves for a terminal or a pipe: never a character that a terminal obeys, or that hides.

Text comes from everywhere: stores that others wrote or edited, files, arguments, messages of code
that failed. It is escaped (`everwhen.vocabulary.escaping`) where it leaves, and not earlier: each
row and JSON line of `Output`, each piece that a console draws, and whatever else is written to
standard output or standard error.
"""

from __future__ import annotations

import codecs
import io
from typing import Any, BinaryIO, TextIO, cast

from everwhen.vocabulary.escaping import escaped


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
