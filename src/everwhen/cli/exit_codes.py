"""How a command ends: its exit code, and one line on stderr where something is wrong.

    0    done; also when the reader of a pipe has read enough
    1    the answer is no: a rejected append, faults found, nothing there at that moment
    2    the command line is wrong
    65   the data is wrong: malformed input, events that don't fit their classes, or a proof,
         checkpoint or policy that can't be taken
    66   there is no such store, key or vault, the key is a wrong one, or the file is something else
    70   a program failed: your own code that you named, or Everwhen's, which is worth a report
    73   the file to write already exists, and --overwrite wasn't given; or a
         backup can't be made there
    74   the medium failed: damaged, full, unreadable
    75   another process is busy with it; try again
    77   not allowed: read-only, or missing permissions
    130  interrupted with Ctrl-C

From 65 on they are those of sysexits.h, and 130 is the shells' own for an interrupt.
"""

from __future__ import annotations

import errno
import shutil
import sys
import textwrap
from typing import Final

import msgspec

from everwhen.cli.output import make_way
from everwhen.exchange import ExchangeFileError, ImportFormatError, OutputExistsError
from everwhen.exchange.errors import FormatOptionError
from everwhen.privacy.failure_texts import raised_at
from everwhen.vocabulary.errors import (
    AuditFallbackError,
    BackupError,
    BusyError,
    DeclarationError,
    DecodeError,
    EverwhenError,
    ExpressionError,
    InvalidPathError,
    InvalidQueryError,
    MissingKeyError,
    NewerStoreError,
    NotAStoreError,
    ReadOnlyError,
    RefusedError,
    RetiredError,
    SealedError,
    StorageError,
    UnfinishedErasureError,
    VaultError,
    WrongKeyError,
)
from everwhen.vocabulary.escaping import escaped
from everwhen_verify.errors import VerifyError

OK: Final = 0
NO: Final = 1
USAGE: Final = 2
BAD_DATA: Final = 65
NO_INPUT: Final = 66
FAULT: Final = 70
OUTPUT_EXISTS: Final = 73
MEDIUM: Final = 74
BUSY: Final = 75
NOT_ALLOWED: Final = 77
INTERRUPTED: Final = 130

_DENIED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (ImportFormatError, BAD_DATA),
    (OutputExistsError, OUTPUT_EXISTS),
    (FormatOptionError, USAGE),
    (ExchangeFileError, NO_INPUT),
    (RefusedError, NO),
    (BackupError, OUTPUT_EXISTS),
    (AuditFallbackError, BAD_DATA),
    (InvalidPathError, USAGE),
    (InvalidQueryError, USAGE),
    (ExpressionError, USAGE),
    (DeclarationError, USAGE),
    (DecodeError, BAD_DATA),
    (MissingKeyError, NO_INPUT),
    (WrongKeyError, NO_INPUT),
    (VaultError, NOT_ALLOWED),
    (NotAStoreError, NO_INPUT),
    (NewerStoreError, NO_INPUT),
    (BusyError, BUSY),
    (ReadOnlyError, NOT_ALLOWED),
    (StorageError, MEDIUM),
    (EverwhenError, NO),
    (VerifyError, BAD_DATA),
    (BrokenPipeError, OK),
    (FileNotFoundError, NO_INPUT),
    (PermissionError, NOT_ALLOWED),
    (OSError, MEDIUM),
    (UnicodeError, BAD_DATA),
    (msgspec.MsgspecError, BAD_DATA),
    (MemoryError, MEDIUM),
)

TRACEBACK: Final = "EVERWHEN_TRACEBACK"
"""The environment variable that asks for tracebacks."""


_BY_ERRNO: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO), MEDIUM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), NOT_ALLOWED),
}
"""What the system says of a medium or of permissions decides, whatever it was that failed."""


class CommandStop(Exception):  # noqa: N818 - it ends the command, which is not always an error
    """Ends the command with a line on stderr and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: BaseException) -> int:
    """The exit code for an error."""
    if isinstance(error, CommandStop):
        return error.code
    system = error if isinstance(error, OSError) else error.__cause__
    if isinstance(system, OSError) and system.errno in _BY_ERRNO:
        return _BY_ERRNO[system.errno]
    if isinstance(error, SealedError) and isinstance(error.__cause__, VaultError):
        return code_of(error.__cause__)
    if isinstance(error, UnfinishedErasureError) and error.__cause__ is not None:
        return code_of(error.__cause__)
    cause = error.__cause__ if isinstance(error, ExchangeFileError) else error
    if isinstance(cause, OSError) and cause.errno in _DENIED:
        return NOT_ALLOWED
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAULT)


def say(message: str) -> None:
    """One line on stderr, after the name of the program; it is escaped."""
    make_way()
    line = f"everwhen: {escaped(' '.join(message.splitlines()))}"
    if sys.stderr is not None and sys.stderr.isatty():  # a terminal would break words
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{line}\n")


def described(error: BaseException) -> str:
    """The error in one line; the system's own errors with the file first."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    if isinstance(error, ExpressionError):
        place = "" if error.column is None else f"column {error.column} of "
        return f"{place}{error.text!r}: {error.reason}"
    if isinstance(error, UnicodeError | msgspec.MsgspecError):
        return f"this can't be read: {error}; check that it is the right file, and complete"
    if isinstance(error, RetiredError):
        return (
            f"events up to position {error.last} were retired at "
            f"{error.retired_at:%Y-%m-%dT%H:%M:%SZ} and are no longer kept; ask for what came "
            f"after that: with --after {error.last} or --skip-retired, where a command has them"
        )
    return str(error) or type(error).__name__


def last_words(error: BaseException) -> str:
    """What is said of an error that ends a command: that, its notes, and of a fault its place."""
    noted = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    if code_of(error) != FAULT:
        return f"{described(error)}{noted}"
    hint = f"set {TRACEBACK}=1 to see the traceback"
    place, is_ours = raised_at(error)
    if is_ours:
        hint += "; this is a fault in Everwhen, please report it"
    return f"{type(error).__name__}: {error}{noted}{place}; {hint}"
