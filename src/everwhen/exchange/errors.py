"""What can go wrong with a file that is imported or exported.

EverwhenError
└── ExchangeError
    ├── ImportFormatError       the content breaks a rule of its format; names file and line
    ├── ImportedBeforeError     much of it was imported before, from another file or otherwise
    ├── ImportTimesError        its own times can't be kept, for the store has newer events
    ├── OtherHistoryError       the store has other events than the archive that is imported
    │   └── OtherCopyError      the target has other history than the store that is copied
    └── ExchangeFileError       the file itself can't be read or written
        ├── FormatOptionError   an option of its format makes no sense
        └── OutputExistsError   it is there already, and is not to be replaced

ConflictError
└── ImportConflictError         a stream of an Everwhen export is not where it was when exported
"""

from __future__ import annotations

from everwhen.vocabulary.errors import ConflictError, EverwhenError
from everwhen.vocabulary.streams import ExpectedVersion


class ExchangeError(EverwhenError):
    """The root of what import and export raise on their own account."""


class ImportFormatError(ExchangeError):
    """Something in the file can't become an event; ``line`` counts from 1, 0 for the whole file."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        self.file = file
        self.line = line
        self.reason = reason
        place = f"{file}, line {line}" if line else file
        super().__init__(f"{place}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self.line, self.reason)


class ImportedBeforeError(ExchangeError):
    """Much of the file was imported before, and would be in the store twice; ``reason`` says when.

    Nothing was written.
    """

    def __init__(
        self,
        file: str,
        reason: str,
        remedy: str = "to continue that import, repeat its options",
    ) -> None:
        self.file = file
        self.reason = reason
        self.remedy = remedy
        super().__init__(
            f"{file}: {reason}; {remedy}, and to import the rows once more, use again=True "
            f"(--again)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self.reason, self.remedy)


class ImportTimesError(ExchangeError):
    """With ``times="recorded"``: the store has newer events, so own times can't be kept.

    ``written`` events were written by this import, and stay; running it again goes on after them.
    """

    def __init__(self, file: str, reason: str, written: int) -> None:
        self.file = file
        self.reason = reason
        self.written = written
        super().__init__(
            f"{file}: {reason}; {written:,} events were written; import it with times='occurred' "
            f"(--times occurred), or into another store"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self.reason, self.written)


class OtherHistoryError(ExchangeError):
    """The store has other events than the archive that is imported, from ``position`` on.

    ``written`` events were written by this import, and stay.
    """

    def __init__(self, archive: str, position: int, reason: str, written: int) -> None:
        self.archive = archive
        self.position = position
        self.reason = reason
        self.written = written
        super().__init__(
            f"{archive}: the store has other history from position {position:,} on: {reason}; "
            f"{written:,} events were written; import the archive into a new store"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.archive, self.position, self.reason, self.written)


class OtherCopyError(OtherHistoryError):
    """The ``target`` has other history than the ``source`` that is copied, from ``position`` on.

    ``written`` events were written by this copying, and stay.
    """

    def __init__(self, source: str, target: str, position: int, reason: str, written: int) -> None:
        super().__init__(source, position, reason, written)
        self.source = source
        self.target = target

    def __str__(self) -> str:
        return (
            f"{self.target} has other history than {self.source} from position {self.position:,} "
            f"on: {self.reason}; {self.written:,} events were written; copy into a new store"
        )

    def __reduce__(self) -> tuple[object, ...]:
        given = (self.source, self.target, self.position, self.reason, self.written)
        return type(self), given


class ImportConflictError(ConflictError):
    """A stream of an Everwhen export is at another version in the store than in the export.

    ``line`` is where the commit begins in the file. ``written`` events of other commits were
    written by this import, and stay.
    """

    def __init__(
        self,
        stream: str,
        expected: ExpectedVersion,
        actual: int,
        file: str,
        line: int,
        written: int,
    ) -> None:
        super().__init__(stream, expected, actual)
        self.file = file
        self.line = line
        self.written = written

    def __str__(self) -> str:
        return (
            f"{self.file}, line {self.line}: the commit continues at version {self.expected} of "
            f"stream {self.stream!r}, which is at version {self.actual} here; {self.written:,} "
            f"events were written; import the export into an empty store, or into one where "
            f"nobody else has written to these streams"
        )

    def __reduce__(self) -> tuple[object, ...]:
        given = (self.stream, self.expected, self.actual, self.file, self.line, self.written)
        return type(self), given


class ExchangeFileError(ExchangeError):
    """The file can't be opened, read or written."""

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self.reason)


class FormatOptionError(ExchangeFileError):
    """An option of a format makes no sense: a name, a zone, an encoding, a delimiter."""


class OutputExistsError(ExchangeFileError):
    """The file to write exists, and ``replace`` wasn't given."""


class DamagedInputError(Exception):
    """Raised within a reader that can't go on; the import turns it into `ImportFormatError`.

    ``line`` is 0 where only the caller knows how far it had come.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        self.reason = reason
        self.line = line
        super().__init__(reason)
