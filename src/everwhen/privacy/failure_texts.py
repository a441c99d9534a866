"""What is shown and stored of a failure in an application's own code.

An exception's message can quote personal data, and what is written of it stays: in a log, with a
projection's position, with an event that was parked. So in a store with a vault only the
exception's class and the place in the code are written in the open. The message is kept beside them
sealed, as snapshots are: readable until the next subject is forgotten, and then never again.
"""

from __future__ import annotations

import base64
import binascii
import traceback
from pathlib import Path
from types import CodeType
from typing import Final

from everwhen.privacy.erasure_marks import ErasureMark
from everwhen.privacy.vault import Vault
from everwhen.vocabulary.errors import (
    InlineError,
    ProjectionError,
    SealedError,
    SnapshotError,
    StatementError,
    StorageError,
    VaultError,
)

_SEALED: Final = "\n$sealed:"
_HERE: Final = str(Path(__file__).parent.parent)


def shown_failure(failure: BaseException | None, vault: Vault | None) -> str:
    """What may be logged and shown: with a vault, no words of the application."""
    name = type(failure).__name__
    if vault is None or failure is None or _has_no_values(failure):
        return f"{name}: {failure}"
    return f"{name}{_place(failure)}"


def stored_failure(failure: BaseException | None, mark: ErasureMark) -> str:
    """What may be kept: the same, with the message sealed after it.

    ``mark`` is that of the events which it may quote; it is left out where that is outdated.
    """
    vault = mark.vault
    brief = shown_failure(failure, vault)
    if vault is None or failure is None or _has_no_values(failure):
        return brief
    try:
        sealed = vault.seal_snapshot(str(failure).encode("utf-8", "replace"), _bound(brief))
        if mark.is_outdated:
            return brief
    except VaultError:
        return brief
    return f"{brief}{_SEALED}{base64.b64encode(sealed).decode()}"


def read_back(text: str, vault: Vault | None) -> str:
    """What was stored, with its message while that can be opened."""
    brief, mark, sealed = text.partition(_SEALED)
    if not mark or vault is None:
        return brief
    try:
        message = vault.open_snapshot(base64.b64decode(sealed), _bound(brief))
    except (binascii.Error, VaultError):
        message = None
    if message is None:
        return f"{brief} (the message went when somebody was forgotten)"
    return f"{brief}: {message.decode()}"


def _has_no_values(failure: BaseException) -> bool:
    """Whether its words are all Everwhen's, and hold no value."""
    if isinstance(failure, SnapshotError):
        return failure.__cause__ is None
    if isinstance(failure, StorageError):
        return not isinstance(failure, StatementError)
    return isinstance(failure, ProjectionError | InlineError | SealedError)


def raised_at(failure: BaseException) -> tuple[str, bool]:
    """Where it was raised, and whether that is in here, not in an application's own code."""
    place, is_ours = "", False
    for frame, line in traceback.walk_tb(failure.__traceback__):
        place = _line_in(frame.f_code, line)
        is_ours = frame.f_code.co_filename.startswith(_HERE)
    return place, is_ours


def _line_in(code: CodeType, line: int) -> str:
    return f" at {Path(code.co_filename).name}:{line} in {code.co_qualname}"


def _place(failure: BaseException) -> str:
    """Where in the application it was raised, or else where in here."""
    theirs = ours = ""
    for frame, line in traceback.walk_tb(failure.__traceback__):
        code = frame.f_code
        place = _line_in(code, line)
        if code.co_filename.startswith(_HERE):
            ours = place
        else:
            theirs = place
    return theirs or ours


def _bound(brief: str) -> bytes:
    return f"everwhen-failure/v1\n{brief}".encode()
