"""IEEE XES, the standard for event logs of process mining (IEEE 1849).

A trace becomes a stream, an event of it an event whose type is its ``concept:name`` and whose data
are its attributes. A trace's own attributes are the data of an event of type ``XesTrace``, before
the trace's others, with ``case:`` before each key; the log's own attributes, its extensions,
globals and classifiers are those of an ``XesLog``. So nothing that XES defines is lost on the way
into a store and out again. A time without a zone is taken to be UTC, and counted.

Logs that break the standard come in as far as they can: attributes without a key or a value, and
unknown elements, are left out, values that aren't of their type are kept as text, numbers that
aren't finite become null, and all of it is counted. A trace without a name is a case of its own:
what stands for its name begins with ``~``, as no trace's own does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from everwhen.exchange.log_times import checked
from everwhen.exchange.records import FileItem, FileWriter
from everwhen.exchange.xes_parsing import records_of

DEFAULT_CATEGORY: Final = "case"


class Xes(msgspec.Struct, frozen=True):
    """An XES log. Its traces are the streams of ``category``, its own stream ``log-<category>``.

    ``category`` is "case" for an import unless given. An export takes in the streams of the
    category and whatever log was imported into it last; without a category, that of all streams,
    if there is but one.
    Imported events without a time get ``time``. Unless that is given, each gets the time of the one
    before it in its trace, or is recorded as of now where no event of the log has a time.
    """

    category: str | None = None
    time: datetime | None = None

    def __post_init__(self) -> None:
        checked(self.time)

    @property
    def name(self) -> str:
        """The format's name on the command line."""
        return "xes"

    @property
    def identity(self) -> bytes:
        """What was chosen for reading."""
        chosen: dict[str, object] = {"category": self.category or DEFAULT_CATEGORY}
        if self.time is not None:
            chosen["time"] = self.time
        return b"xes" + msgspec.json.encode(chosen)

    def text(self, *, part: bool) -> FileWriter:
        """A log can't be written in the order of positions: exporting goes trace by trace."""
        raise NotImplementedError("export an XES log with export_events()")

    def read(self, chunks: Iterator[bytes]) -> Iterator[FileItem]:
        """The log's records in document order."""
        return records_of(chunks, self.category or DEFAULT_CATEGORY, self.time)
