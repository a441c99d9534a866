"""Audit entries as JSON: the form that the command line and the HTTP API share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from everwhen.audit.entries import AuditAction, AuditResult
from everwhen.audit.filters import AuditRecord
from everwhen.exchange.json_forms import utc_text


class AuditRecordForm(msgspec.Struct, frozen=True):
    """An entry with its place in the log. What was erased, or can't be opened, is an object."""

    id: str
    position: int
    recorded_at: str
    timestamp: datetime
    user: str | None
    action: AuditAction
    resource: str
    result: AuditResult
    reason: Any
    details: dict[str, Any]
    ip_address: Any
    user_agent: Any
    session: Any
    correlation: str | None
    subject: str


def audit_record_form(record: AuditRecord) -> AuditRecordForm:
    """Everything that is known of an entry."""
    return AuditRecordForm(
        id=record.id,
        position=record.position,
        recorded_at=utc_text(record.recorded_at),
        **msgspec.structs.asdict(record.entry),
    )
