"""Entries on what no entry may name as it is: escaped or shortened, and so marked. Pure.

Whoever asks under an odd name must not go unseen for it. Escaped text is a string of JSON, in its
quotes; with an ellipsis after them it was cut. In a user or a resource each part of the path stands
for itself, so that the entry is found by the parts above. The detail ``escaped`` names the fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from everwhen.audit.entries import (
    LONGEST_FIELDS,
    MAX_DETAILS_BYTES,
    UNSPEAKABLE,
    AuditEntry,
    checked,
    checked_details,
    checked_field,
)
from everwhen.vocabulary.errors import InvalidAuditEntryError

ESCAPED: Final = "escaped"
"""The detail that names the fields which don't hold what was given."""

_MAX_DETAIL_BYTES: Final = 256
"""Enough to recognise a value by; 60 such details fit in an entry."""
_MAX_KEY_BYTES: Final = 128
"""Half of a value's: names are shorter."""
_MARK_BYTES: Final = 256
"""Left free for the detail that names the escaped fields."""
_PATHS: Final = frozenset({"user", "resource"})


def escaped(draft: AuditEntry) -> AuditEntry:
    """The entry, checked; what can't stand in one is escaped or shortened, and so marked.

    An address that is none becomes a detail. Raises `InvalidAuditEntryError` for what the program
    says itself: the time, the action, the result, and whether there is a reason.
    """
    try:
        return checked(draft)
    except InvalidAuditEntryError:
        changed: dict[str, Any] = {}
    for field, longest in LONGEST_FIELDS.items():
        value = getattr(draft, field)
        if not _fits(field, value):
            write = _path if field in _PATHS else escaped_text
            changed[field] = write(value, longest)
    details: Any = draft.details
    if not _fits("ip_address", draft.ip_address):
        changed["ip_address"] = None
        given = details if isinstance(details, Mapping) else {}
        details = {**given, "ip_address": escaped_text(draft.ip_address, _MAX_DETAIL_BYTES)}
    marked = sorted(changed)
    stored = details if _fits("details", details) else _storable(details)
    stored = _shortened(stored, MAX_DETAILS_BYTES - _MARK_BYTES)
    if stored != details:
        marked.append("details")
    return checked(msgspec.structs.replace(draft, **changed, details={**stored, ESCAPED: marked}))


def escaped_text(value: object, longest: int) -> str:
    """A value as text that any entry may hold: in quotes, and of at most that many bytes."""
    if not isinstance(value, str):
        value = _repr(value)
    whole = _quoted(value)
    if len(whole.encode()) <= longest:
        return whole
    return _longest_that_fits(value, _quoted, longest)


def _path(value: object, longest: int) -> str:
    """A path with those of its parts escaped that need it."""
    if not isinstance(value, str):
        return escaped_text(value, longest)
    whole = _path_quoted(value)
    if len(whole.encode()) <= longest:
        return whole
    return _longest_that_fits(value, lambda cut: _path_quoted(cut, is_cut=True), longest)


def _longest_that_fits(text: str, write: Callable[[str], str], longest: int) -> str:
    """The longest beginning of a text that fits, as ``write`` gives it, with an ellipsis."""
    for count in range(min(len(text), longest), -1, -1):
        shown = write(text[:count]) + "…"
        if len(shown.encode()) <= longest:
            return shown
    raise AssertionError


def _path_quoted(path: str, *, is_cut: bool = False) -> str:
    """Each part that is empty or odd in quotes, and the last one where it was cut."""
    *above, last = path.split("/")
    shown = [part if _is_plain(part) else _quoted(part) for part in above]
    shown.append(last if _is_plain(last) and not is_cut else _quoted(last))
    return "/".join(shown)


def _is_plain(part: str) -> bool:
    return bool(part) and not part.startswith('"') and UNSPEAKABLE.search(part) is None


def _quoted(text: str) -> str:
    """A string of JSON, in which only what needs it is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return UNSPEAKABLE.sub(lambda odd: "".join(f"\\u{ord(c):04x}" for c in odd[0]), quoted)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 (whatever it is, it has to be recorded)
        return f"<{type(value).__name__}>"


def _fits(field: str, value: object) -> bool:
    try:
        if field == "details":
            checked_details(value)
        else:
            checked_field(field, value)
    except InvalidAuditEntryError:
        return False
    return True


def _storable(given: object) -> dict[str, Any]:
    """Details that can be stored: each that can't becomes text that shows it."""
    if not isinstance(given, Mapping):
        return {"details": escaped_text(given, _MAX_DETAIL_BYTES)}
    details: dict[str, Any] = {}
    for key, value in given.items():
        name = key if _fits("details", {key: None}) else escaped_text(key, _MAX_KEY_BYTES)
        fits = _fits("details", {"": value})
        details[name] = value if fits else escaped_text(value, _MAX_DETAIL_BYTES)
    return details


def _shortened(details: Mapping[str, Any], largest: int) -> dict[str, Any]:
    """Details of at most that many bytes: long ones are cut, then the last ones left out."""
    if _size(details) <= largest:
        return dict(details)
    cut: dict[str, Any] = {}
    for key, value in details.items():
        name = key if len(key.encode()) <= _MAX_KEY_BYTES else escaped_text(key, _MAX_KEY_BYTES)
        short = (
            value if _size(value) <= _MAX_DETAIL_BYTES else escaped_text(value, _MAX_DETAIL_BYTES)
        )
        if _size({**cut, name: short}) > largest:
            break
        cut[name] = short
    return cut


def _size(value: object) -> int:
    return len(msgspec.json.encode(value))
