"""Audit entries: who did what to what, how it ended, and from where. Pure.

An entry is an event like any other, in the stream of its month (``audit-2026-11``). It is checked
when it is made, before anything of it, or of what it speaks of, is written.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from everwhen.codec.audit_marks import AUDIT_CATEGORY
from everwhen.codec.commits import Write
from everwhen.codec.json_encoding import encode_shallow
from everwhen.vocabulary.errors import EverwhenError, InvalidAuditEntryError
from everwhen.vocabulary.events import Event, NewEvent
from everwhen.vocabulary.metadata import current_metadata
from everwhen.vocabulary.personal_data import Personal
from everwhen.vocabulary.validation import check_text

SUBJECTS: Final = f"?*/{AUDIT_CATEGORY}/[0-9][0-9][0-9][0-9]-[0-9][0-9]"
"""The pattern of the subjects that entries have; they end with the month."""
NOBODY: Final = "nobody"
"""Whose data an entry without a user is."""

MAX_AUDIT_NAME_BYTES: Final = 256
"""With its prefix such a name is a tag, of which a store takes 512 bytes."""
MAX_AUDIT_TEXT_BYTES: Final = 2_048
"""Enough for the longest browser's name and a paragraph of reasons."""
MAX_DETAILS_BYTES: Final = 16 << 10
"""As JSON: details explain an entry, documents are kept elsewhere."""
_TAGGED_LEVELS: Final = 8
"""Each level of a resource's path is a tag, and every tag costs an index row."""
LONGEST_FIELDS: Final = {
    "resource": MAX_AUDIT_NAME_BYTES,
    "user": MAX_AUDIT_NAME_BYTES,
    "user_agent": MAX_AUDIT_TEXT_BYTES,
    "session": MAX_AUDIT_NAME_BYTES,
    "correlation": MAX_AUDIT_NAME_BYTES,
    "reason": MAX_AUDIT_TEXT_BYTES,
}
UNSPEAKABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class AuditAction(enum.Enum):
    """What was done, or tried."""

    CREATE = "Create"
    READ = "Read"
    UPDATE = "Update"
    DELETE = "Delete"
    LOGIN = "Login"
    LOGOUT = "Logout"
    PERMISSION_GRANT = "PermissionGrant"
    PERMISSION_REVOKE = "PermissionRevoke"
    CONFIG_CHANGE = "ConfigChange"
    SECURITY_EVENT = "SecurityEvent"


class AuditResult(enum.Enum):
    """How it ended."""

    SUCCESS = "Success"
    FAILURE = "Failure"
    PARTIAL_SUCCESS = "PartialSuccess"


Detail: TypeAlias = Personal[str | int | float | bool | list[Any] | None]
"""One of an entry's details."""


class AuditEntry(Event):
    """Who did what, when, to what, how it ended, and from where.

    ``resource`` is a path, such as ``accounts/7/limit``: queries and permissions go by its
    parts, as they are written. Nothing is resolved: ``..`` and an empty part are parts like others.
    A failure has a ``reason``, a partial success ``details``. ``user`` is None for nobody in
    particular. The entry's id is its event's.

    Where somebody acts from, the reason and the details are personal: with a vault, encrypted.
    ``subject`` is whose they are, as a path; it follows from the user and the month, and is filled
    in. ``user``, ``resource`` and ``correlation`` stay in the open: let them be ids.
    """

    data_subject: ClassVar[str] = "subject"

    timestamp: datetime
    user: str | None
    action: AuditAction
    resource: str
    result: AuditResult = AuditResult.SUCCESS
    reason: Personal[str | None] = None
    details: dict[str, Detail] = msgspec.field(default_factory=dict)
    ip_address: Personal[str | None] = None
    user_agent: Personal[str | None] = None
    session: Personal[str | None] = None
    correlation: str | None = None
    subject: str = ""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """From where somebody acts."""

    ip_address: str | None = None
    user_agent: str | None = None
    session: str | None = None


NOWHERE: Final = Origin()
_current: Final = ContextVar("everwhen_origin", default=NOWHERE)


def current_origin() -> Origin:
    """From where entries made here and now are, unless they say so themselves."""
    return _current.get()


@contextmanager
def origin(
    *, ip_address: str | None = None, user_agent: str | None = None, session: str | None = None
) -> Iterator[None]:
    """Entries made within are from there, on top of what an outer context says.

    Raises `InvalidAuditEntryError` for what no entry may hold: do so before anything is done.
    """
    outer = _current.get()
    inner = Origin(
        ip_address=_address(ip_address) or outer.ip_address,
        user_agent=_text(user_agent, "user_agent", MAX_AUDIT_TEXT_BYTES) or outer.user_agent,
        session=_text(session, "session", MAX_AUDIT_NAME_BYTES) or outer.session,
    )
    token = _current.set(inner)
    try:
        yield
    finally:
        _current.reset(token)


def draft_of(
    timestamp: datetime,
    action: AuditAction,
    resource: str,
    *,
    result: AuditResult = AuditResult.SUCCESS,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
    user: str | None = None,
    ip_address: str | None = None,
    user_agent: str | None = None,
    session: str | None = None,
    correlation: str | None = None,
) -> AuditEntry:
    """An entry with its gaps filled from the context, to be checked yet."""
    metadata, here = current_metadata(), current_origin()
    return AuditEntry(
        timestamp,
        user if user is not None else metadata.user_id,
        action,
        resource,
        result,
        reason,
        dict(details) if isinstance(details, Mapping) else details or {},
        ip_address if ip_address is not None else here.ip_address,
        user_agent if user_agent is not None else here.user_agent,
        session if session is not None else here.session,
        correlation if correlation is not None else metadata.correlation_id,
    )


def checked(entry: AuditEntry) -> AuditEntry:
    """The entry with every rule about it checked, its address in the canonical form.

    Raises `InvalidAuditEntryError`, which names the field and how to fix it.
    """
    if not isinstance(entry, AuditEntry):
        raise InvalidAuditEntryError("entry", f"expected an AuditEntry, got {entry!r}")
    if not isinstance(entry.timestamp, datetime) or entry.timestamp.tzinfo is None:
        raise InvalidAuditEntryError(
            "timestamp", f"{entry.timestamp!r}: use a datetime with a time zone"
        )
    if not isinstance(entry.action, AuditAction):
        raise InvalidAuditEntryError("action", f"{entry.action!r}: use an AuditAction")
    if not isinstance(entry.result, AuditResult):
        raise InvalidAuditEntryError("result", f"{entry.result!r}: use an AuditResult")
    for field in LONGEST_FIELDS:
        checked_field(field, getattr(entry, field))
    checked_details(entry.details)
    if (entry.reason is not None) != (entry.result is AuditResult.FAILURE):
        raise InvalidAuditEntryError(
            "reason", f"{entry.reason!r} with {entry.result.value}: a failure has one, nothing else"
        )
    if entry.result is AuditResult.PARTIAL_SUCCESS and not entry.details:
        raise InvalidAuditEntryError(
            "details", "a partial success says what succeeded, and what not"
        )
    moment = entry.timestamp.astimezone(UTC)
    return msgspec.structs.replace(
        entry,
        timestamp=moment,
        ip_address=checked_field("ip_address", entry.ip_address),
        subject=subject_of(entry.user, moment),
    )


def checked_field(field: str, value: object) -> str | None:
    """One of an entry's texts, or its address in canonical form, checked like an entry."""
    if field == "ip_address":
        return _address(value)
    text = _text(value, field, LONGEST_FIELDS[field])
    if field == "resource" and text is None:
        raise InvalidAuditEntryError("resource", "name what it was done to, such as accounts/7")
    if field == "user" and not all((text or NOBODY).split("/")):
        raise InvalidAuditEntryError("user", f"{text!r}: a path's parts are not empty")
    return text


def write_of(entry: AuditEntry) -> Write:
    """A checked entry as a write to its month's stream."""
    return Write(stream_of(entry.timestamp), [NewEvent(event=entry, tags=tags_of(entry))])


def stream_of(moment: datetime) -> str:
    """The stream of a moment's month, in UTC."""
    return f"{AUDIT_CATEGORY}-{moment.astimezone(UTC):%Y-%m}"


def subject_of(user: str | None, moment: datetime) -> str:
    """Whose data an entry is: a user's, of a month, so that either can be erased."""
    return f"{user or NOBODY}/{AUDIT_CATEGORY}/{moment.astimezone(UTC):%Y-%m}"


def impersonal(entry: AuditEntry) -> AuditEntry:
    """What may be kept of an entry about a user who has been forgotten: the bare fact."""
    details: dict[str, Detail] = {"user": "forgotten"}
    return msgspec.structs.replace(
        entry,
        reason=None if entry.reason is None else "of a forgotten user; the reason is not kept",
        details=details,
        ip_address=None,
        user_agent=None,
        session=None,
        subject=subject_of(None, entry.timestamp),
    )


def tags_of(entry: AuditEntry) -> tuple[str, ...]:
    """What an entry is found by; see `AuditFilter`."""
    tags = [f"action:{entry.action.value}", f"result:{entry.result.value}"]
    if entry.user is not None:
        tags.append(f"user:{entry.user}")
    if entry.correlation is not None:
        tags.append(f"correlation:{entry.correlation}")
    tags += [f"resource:{path}" for path in paths_above(entry.resource)[:_TAGGED_LEVELS]]
    return tuple(tags)


def resource_tag(prefix: str) -> str:
    """The tag that all resources at or below a path carry: its own, or that of one above it."""
    return f"resource:{paths_above(prefix.rstrip('/'))[:_TAGGED_LEVELS][-1]}"


def paths_above(resource: str) -> list[str]:
    """The paths that lead to a resource, from the shortest to its own."""
    parts = resource.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def spoken(error: BaseException) -> str:
    """An error as a reason that an entry may hold: its kind and its words, on one line."""
    name = type(error).__name__
    try:
        said = f"{name}: {error}"
    except Exception:  # noqa: BLE001 (an error whose text fails is an error all the same)
        said = name
    text = UNSPEAKABLE.sub(" ", said).strip(" :") or "an error without a name"
    return text.encode()[:MAX_AUDIT_TEXT_BYTES].decode(errors="ignore")


def checked_details(details: object) -> None:
    """Raises `InvalidAuditEntryError` for details that can't be stored, or are too large."""
    if not isinstance(details, dict) or not all(isinstance(key, str) for key in details):
        raise InvalidAuditEntryError("details", f"{details!r}: give a dict with texts as keys")
    try:
        encoded = encode_shallow(details)
        back = msgspec.json.decode(encoded)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise InvalidAuditEntryError("details", f"they can't be stored: {error}") from error
    if back != details or any(isinstance(value, dict) for value in details.values()):
        raise InvalidAuditEntryError(
            "details", "each is a text, a number, true, false, null, or a list of anything in JSON"
        )
    if len(encoded) > MAX_DETAILS_BYTES:
        raise InvalidAuditEntryError(
            "details", f"{len(encoded):,} bytes as JSON, the limit is {MAX_DETAILS_BYTES:,}"
        )


def _text(text: object, field: str, longest: int) -> str | None:
    if text is None:
        return None
    try:
        return check_text(text, field, _FieldError, longest)
    except _FieldError as error:
        raise InvalidAuditEntryError(field, str(error).removeprefix(f"{field} ")) from None


class _FieldError(EverwhenError):
    pass


def _address(text: object) -> str | None:
    if text is None:
        return None
    try:
        if isinstance(text, str):
            return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    raise InvalidAuditEntryError(
        "ip_address",
        f"{text!r} is not an IP address; give it as text, such as 192.0.2.7 or 2001:db8::1",
    )
