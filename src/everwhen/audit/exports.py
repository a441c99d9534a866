"""Audit entries for other tools: OCSF 1.8 events as JSON, and rows of CSV. Pure.

In OCSF (https://schema.ocsf.io) a login is an Authentication event, a grant is User Access
Management, a security event is a Detection Finding. What is created, read, updated or deleted from
a known address is API Activity; without one, and for configuration, it is Entity Management.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from everwhen.audit.entries import AuditAction, AuditEntry, AuditResult
from everwhen.audit.filters import AuditRecord
from everwhen.codec.json_encoding import encode_json
from everwhen.vocabulary.personal_data import Erased

OCSF_VERSION: Final = "1.8.0"
AuditForm: TypeAlias = Literal["ocsf", "csv"]

CSV_COLUMNS: Final = (
    "id",
    "timestamp",
    "recorded_at",
    "user",
    "action",
    "resource",
    "result",
    "reason",
    "details",
    "ip_address",
    "user_agent",
    "session",
    "correlation",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
_PRODUCT: Final = {"name": "Everwhen", "vendor_name": "Everwhen"}
_STATUS: Final = {
    AuditResult.SUCCESS: (1, "Success"),
    AuditResult.FAILURE: (2, "Failure"),
    AuditResult.PARTIAL_SUCCESS: (99, "Partial Success"),
}


class _Class(msgspec.Struct, frozen=True):
    """A class of events, as OCSF numbers them, and what is particular to it."""

    uid: int
    name: str
    category: str
    activities: dict[AuditAction, tuple[int, str]]
    own: Callable[[AuditRecord], dict[str, Any]]


def ocsf_event(record: AuditRecord) -> dict[str, Any]:
    """The entry as an OCSF event, which is valid by the published schema."""
    entry = record.entry
    kind = _class_of(entry)
    activity, activity_name = kind.activities[entry.action]
    status, status_name = _STATUS[entry.result]
    event: dict[str, Any] = {
        "class_uid": kind.uid,
        "class_name": kind.name,
        "category_uid": kind.uid // 1000,
        "category_name": kind.category,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": kind.uid * 100 + activity,
        "type_name": f"{kind.name}: {activity_name}",
        "severity_id": 1 if entry.result is AuditResult.SUCCESS else 3,
        "severity": "Informational" if entry.result is AuditResult.SUCCESS else "Medium",
        "time": _millis(entry.timestamp),
        "message": f"{entry.action.value} {entry.resource}",
        "metadata": {
            "version": OCSF_VERSION,
            "product": _PRODUCT,
            "uid": record.id,
            "sequence": record.position,
            "logged_time": _millis(record.recorded_at),
            "log_name": "audit",
        },
        "status_id": status,
        "status": status_name,
    }
    if entry.correlation is not None:
        event["metadata"]["correlation_uid"] = entry.correlation
    if entry.reason is not None:
        event["status_detail"] = str(entry.reason)
    event["unmapped"] = {"action": entry.action.value, "resource": entry.resource}
    if entry.details:
        event["unmapped"]["details"] = _plain(entry.details)
    return event | kind.own(record)


def csv_row(record: AuditRecord) -> tuple[str, ...]:
    """The entry's cells, in the order of ``CSV_COLUMNS``; none of them is a formula."""
    entry = record.entry
    return tuple(
        map(
            _harmless,
            (
                record.id,
                entry.timestamp.astimezone(UTC).isoformat(),
                record.recorded_at.isoformat(),
                entry.user or "",
                entry.action.value,
                entry.resource,
                entry.result.value,
                entry.reason or "",
                encode_json(_plain(entry.details)).decode() if entry.details else "",
                entry.ip_address or "",
                entry.user_agent or "",
                entry.session or "",
                entry.correlation or "",
            ),
        )
    )


def head_of(form: AuditForm) -> str:
    """What an export begins with."""
    return _csv_text(CSV_COLUMNS) if form == "csv" else ""


def line_of(record: AuditRecord, form: AuditForm) -> str:
    """An entry's line in an export."""
    if form == "csv":
        return _csv_text(csv_row(record))
    return encode_json(ocsf_event(record)).decode() + "\n"


def _csv_text(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return text.getvalue()


def _harmless(value: str | Erased) -> str:
    """A cell that no spreadsheet takes for a formula."""
    cell = str(value)
    return "'" + cell if cell.lstrip(" ").startswith(_FORMULA) else cell


def _plain(details: Mapping[str, Any]) -> dict[str, Any]:
    """The details, with what was erased as text that says so."""
    return {key: str(one) if isinstance(one, Erased) else one for key, one in details.items()}


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _class_of(entry: AuditEntry) -> _Class:
    for kind in (_AUTHENTICATION, _USER_ACCESS, _FINDING):
        if entry.action in kind.activities:
            return kind
    is_called = entry.ip_address is not None and entry.action in _API.activities
    return _API if is_called else _ENTITY


def _from_where(record: AuditRecord) -> dict[str, Any]:
    """Who acts, and from where, in the fields that several classes share."""
    entry = record.entry
    found: dict[str, Any] = {}
    actor: dict[str, Any] = {}
    if entry.user is not None:
        actor["user"] = _user(entry.user)
    if entry.session is not None:
        actor["session"] = {"uid": str(entry.session)}
    if actor:
        found["actor"] = actor
    if entry.ip_address is not None:
        kind = "name" if isinstance(entry.ip_address, Erased) else "ip"
        found["src_endpoint"] = {kind: str(entry.ip_address)}
    if entry.user_agent is not None:
        found["http_request"] = {"user_agent": str(entry.user_agent)}
    return found


def _user(name: str | None) -> dict[str, Any]:
    return {"uid": name} if name is not None else {"name": "Unknown"}


def _authentication(record: AuditRecord) -> dict[str, Any]:
    entry = record.entry
    found: dict[str, Any] = {
        **_from_where(record),
        "user": _user(entry.user),
        "service": {"name": entry.resource},
    }
    if entry.session is not None:
        found["session"] = {"uid": str(entry.session)}
    return found


def _user_access(record: AuditRecord) -> dict[str, Any]:
    """``details`` may say who is given what: ``grantee`` and ``privileges``."""
    entry = record.entry
    grantee = entry.details.get("grantee")
    privileges = _plain(entry.details).get("privileges")
    listed = privileges if isinstance(privileges, list) else [privileges or entry.resource]
    return {
        **_from_where(record),
        "user": _user(grantee if isinstance(grantee, str) and grantee else None),
        "privileges": [str(privilege) for privilege in listed],
        "resources": [{"uid": entry.resource}],
    }


def _entity(record: AuditRecord) -> dict[str, Any]:
    entry = record.entry
    entity: dict[str, Any] = {"uid": entry.resource}
    if entry.action is AuditAction.CONFIG_CHANGE:
        entity["type"] = "Configuration"
    return {**_from_where(record), "entity": entity}


def _api(record: AuditRecord) -> dict[str, Any]:
    entry = record.entry
    found = _from_where(record)
    found.setdefault("actor", _UNKNOWN_ACTOR)
    return {
        **found,
        "api": {"operation": entry.action.value},
        "resources": [{"uid": entry.resource}],
    }


def _finding(record: AuditRecord) -> dict[str, Any]:
    entry = record.entry
    evidence = _from_where(record)
    found: dict[str, Any] = {
        "finding_info": {
            "uid": record.id,
            "title": f"Security event: {entry.resource}",
            "created_time": _millis(entry.timestamp),
        },
        "resources": [{"uid": entry.resource}],
        "status_id": 1,
        "status": "New",
        "status_code": entry.result.value,
    }
    if evidence:
        if evidence.keys() == {"http_request"}:  # no evidence by itself, says the schema
            evidence["actor"] = _UNKNOWN_ACTOR
        found["evidences"] = [evidence]
    return found


_UNKNOWN_ACTOR: Final = {"app_name": "Unknown"}
_CRUD: Final = {
    AuditAction.CREATE: (1, "Create"),
    AuditAction.READ: (2, "Read"),
    AuditAction.UPDATE: (3, "Update"),
    AuditAction.DELETE: (4, "Delete"),
}
_IDENTITY: Final = "Identity & Access Management"
_AUTHENTICATION: Final = _Class(
    3002,
    "Authentication",
    _IDENTITY,
    {AuditAction.LOGIN: (1, "Logon"), AuditAction.LOGOUT: (2, "Logoff")},
    _authentication,
)
_USER_ACCESS: Final = _Class(
    3005,
    "User Access Management",
    _IDENTITY,
    {
        AuditAction.PERMISSION_GRANT: (1, "Assign Privileges"),
        AuditAction.PERMISSION_REVOKE: (2, "Revoke Privileges"),
    },
    _user_access,
)
_ENTITY: Final = _Class(
    3004,
    "Entity Management",
    _IDENTITY,
    {**_CRUD, AuditAction.CONFIG_CHANGE: (3, "Update")},
    _entity,
)
_API: Final = _Class(6003, "API Activity", "Application Activity", _CRUD, _api)
_FINDING: Final = _Class(
    2004,
    "Detection Finding",
    "Findings",
    {AuditAction.SECURITY_EVENT: (1, "Create")},
    _finding,
)
