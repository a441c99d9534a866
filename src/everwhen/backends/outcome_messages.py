"""What became of a commit, as a value: an error crosses a wire, and is of the same class there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.vocabulary import errors
from everwhen.vocabulary.contract import Outcome, Receipt
from everwhen.vocabulary.errors import EverwhenError, StorageError
from everwhen.vocabulary.streams import Expected


class ErrorMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An error's class, and what it was made of."""

    kind: str
    fields: list[Any]


class OutcomeMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What became of a commit: one of these."""

    receipt: Receipt | None = None
    error: ErrorMessage | None = None


_WORDS: Final = tuple[str]
_FIELDS: Final[Mapping[type[EverwhenError], Any]] = {
    errors.ConflictError: tuple[str, int | Expected, int],
    errors.ConditionError: tuple[int, int],
    errors.CommitIdError: tuple[UUID, int],
    errors.InvalidEventError: _WORDS,
    errors.InvalidCommitError: _WORDS,
    errors.ErasedSubjectError: tuple[str],
    errors.InlineError: tuple[str, int, str],
    errors.RefusedError: _WORDS,
    errors.UnknownBranchError: tuple[str, list[str]],
    errors.BranchError: tuple[str, str],
    errors.InvalidQueryError: _WORDS,
    errors.BeyondEndError: tuple[str, int, int],
    errors.TooDeepError: tuple[str, int],
    errors.SnapshotError: _WORDS,
    errors.RetiredError: tuple[int, datetime],
    errors.UnsupportedError: _WORDS,
    errors.BusyError: _WORDS,
    errors.ReadOnlyError: _WORDS,
    errors.StorageFullError: _WORDS,
    errors.NotAStoreError: _WORDS,
    errors.NewerStoreError: _WORDS,
    errors.CorruptStoreError: _WORDS,
    errors.StorageError: _WORDS,
}
"""What each class of error that a log raises is made of. One of a subclass crosses as its base."""
_CLASSES: Final = {kind.__name__: kind for kind in _FIELDS}


def error_message(error: EverwhenError) -> ErrorMessage:
    """The error as a value."""
    kind = next((kind for kind in type(error).__mro__ if kind in _FIELDS), StorageError)
    made_of: Any = error.__reduce__()[1] if type(error) is kind else (str(error),)
    try:
        fields = msgspec.to_builtins(made_of)
        msgspec.convert(fields, _FIELDS[kind])
    except (msgspec.ValidationError, TypeError):
        kind = errors.RefusedError if isinstance(error, errors.RefusedError) else StorageError
        fields = [str(error)]
    return ErrorMessage(kind.__name__, list(fields))


def error_of(message: ErrorMessage) -> EverwhenError:
    """The error that a value tells of; a `StorageError` where it is of no class known here."""
    kind = _CLASSES.get(message.kind)
    if kind is not None:
        try:
            return kind(*msgspec.convert(message.fields, _FIELDS[kind]))
        except msgspec.ValidationError:
            pass
    return StorageError(f"the server failed: {message.kind}: {message.fields!r:.500}")


def outcome_message(outcome: Outcome) -> OutcomeMessage:
    """The outcome as a value."""
    if isinstance(outcome, Receipt):
        return OutcomeMessage(outcome)
    return OutcomeMessage(None, error_message(outcome))
