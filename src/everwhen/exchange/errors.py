"""What can go wrong with a file that is imported or exported.

EverwhenError
└── ExchangeError
    ├── ImportFormatError       the content breaks a rule of its format; names file and line
    └── ExchangeFileError       the file itself can't be read or written
"""

from __future__ import annotations

from everwhen.errors import EverwhenError


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


class ExchangeFileError(ExchangeError):
    """The file can't be opened, read or written."""

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self.reason)


class DamagedInputError(Exception):
    """Raised within a reader that can't go on; the import turns it into `ImportFormatError`.

    ``line`` is 0 where only the caller knows how far it had come.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        self.reason = reason
        self.line = line
        super().__init__(reason)
