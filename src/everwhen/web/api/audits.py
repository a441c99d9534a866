"""The audit log: who did what, for those who may see it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from starlette.responses import Response

from everwhen.audit.aio import AuditAction, AuditFilter, AuditResult
from everwhen.audit.entry_forms import AuditRecordForm, audit_record_form
from everwhen.errors import UnsupportedError
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import Count, time_from
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import FORBIDDEN, UNAUDITED, UNSUPPORTED


class AuditAsked(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries that fit all that is given: ``resource`` stands for all below it, too.

    ``from`` is inclusive, ``to`` is not. ``order`` is that of the log (``forwards``) or the newest
    first. ``cursor`` is the last page's ``next``, for the same order.
    """

    user: str | None = None
    action: AuditAction | None = None
    resource: str | None = None
    result: AuditResult | None = None
    correlation: str | None = None
    text: str | None = None
    since: str | None = msgspec.field(name="from", default=None)
    until: str | None = msgspec.field(name="to", default=None)
    order: Literal["forwards", "backwards"] = "backwards"
    cursor: Count | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100

    def filter(self) -> AuditFilter:
        """The same for an audit log. Raises `InvalidQueryError` for times that can't be read."""
        return AuditFilter(
            user=self.user,
            action=self.action,
            resource=self.resource,
            result=self.result,
            correlation=self.correlation,
            text=self.text,
            since=None if self.since is None else time_from(self.since),
            until=None if self.until is None else time_from(self.until),
        )


class AuditEntries(msgspec.Struct, frozen=True):
    """A page of entries, in the order asked for; ``next`` is the next page's cursor, if any."""

    entries: list[AuditRecordForm]
    next: int | None


async def read_audit(call: ApiCall[AuditAsked]) -> Response:
    """Entries of the audit log: those that its policy lets the caller see.

    An attempt to see others is forbidden, and recorded.
    """
    audit, asked = call.hosting.audit, call.asked
    if audit is None:
        raise UnsupportedError(
            "the server keeps no audit log; start it with --audit, or with create_app(store, "
            "audit=AuditLog(…))"
        )
    page = await audit.query(
        asked.filter(),
        by=call.by.name,
        limit=asked.limit,
        cursor=asked.cursor,
        oldest_first=asked.order == "forwards",
    )
    entries = [audit_record_form(record) for record in page.records]
    return json_answer(AuditEntries(entries, page.cursor))


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/audit",
        handle=read_audit,
        scope="read",
        parameters=AuditAsked,
        answers={200: AuditEntries},
        problems=(FORBIDDEN, UNAUDITED, UNSUPPORTED),
        of_branch=False,
    ),
)
