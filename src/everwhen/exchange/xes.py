"""IEEE XES, the standard for event logs of process mining (IEEE 1849).

A trace becomes a stream, an event of it an event whose type is its ``concept:name`` and whose data
are its attributes. A trace's own attributes are the data of an event of type ``XesTrace``, before
the trace's others, with ``case:`` before each key; the log's own attributes, its extensions,
globals and classifiers are those of an ``XesLog``. So nothing is lost on the way into a store and
out again. A time without a zone is taken to be UTC.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from everwhen.exchange.records import Item, Text
from everwhen.exchange.xes_parsing import records_of


class Xes(msgspec.Struct, frozen=True):
    """An XES log. Its traces are the streams of ``category``, its own stream ``log-<category>``.

    An export takes in the streams of the category and whatever log was imported into it last.
    """

    category: str = "case"

    @property
    def name(self) -> str:
        """The format's name on the command line."""
        return "xes"

    @property
    def identity(self) -> bytes:
        """What was chosen for reading."""
        return b"xes" + msgspec.json.encode(self)

    def text(self, *, part: bool) -> Text:
        """A log can't be written in the order of positions: exporting goes trace by trace."""
        raise NotImplementedError("export an XES log with export_events()")

    def read(self, chunks: Iterator[bytes]) -> Iterator[Item]:
        """The log's records in document order."""
        return records_of(chunks, self.category)
