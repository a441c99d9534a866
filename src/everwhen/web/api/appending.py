"""Appending: events to a stream, under what the writer believes of it."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from everwhen.errors import ConflictError
from everwhen.exchange.json_forms import ReceiptForm, receipt_form
from everwhen.vocabulary import (
    ANY,
    EXISTS,
    NO_STREAM,
    CommitMetadata,
    ExpectedVersion,
    NewEvent,
    UnknownEvent,
)
from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import (
    BAD_REQUEST,
    FAILED_PRECONDITION,
    INVALID,
    ProblemError,
    problem_of,
)


class GivenEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event to append. ``data`` is an object; ``schema_version`` that of its type."""

    type: str
    data: dict[str, Any]
    tags: list[str] = []
    schema_version: int = 1
    occurred_at: str | None = None


class GivenEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events for one stream, in order, all or none."""

    events: list[GivenEvent]


async def append_events(call: ApiCall[NoParameters]) -> Response:
    """Append events to a stream, all or none.

    ``If-Match: "7"`` where the stream is at version 7, ``If-Match: *`` where it exists,
    ``If-None-Match: *`` where it doesn't: otherwise 412, and nothing is written. With an
    ``Idempotency-Key``, a UUID, it is safe to repeat for ever: the answer is the first one's.
    """
    given: GivenEvents = await call.json()
    stream = call.segment("stream")
    expected = _expected(call)
    key = _key(call)
    try:
        receipt = await call.on.store.append(
            stream,
            [_event(event) for event in given.events],
            expected=expected,
            commit_id=key,
            metadata=None if call.by.name is None else CommitMetadata(user_id=call.by.name),
        )
    except ConflictError as error:
        found = problem_of(error)
        raise ProblemError(FAILED_PRECONDITION, found.detail, **found.members) from error
    headers = {
        "ETag": f'"{receipt.versions[stream]}"',
        "Idempotency-Key": str(receipt.commit_id),
    }
    return json_answer(receipt_form(receipt), 200 if receipt.repeated else 201, headers)


def _event(given: GivenEvent) -> NewEvent[UnknownEvent]:
    return NewEvent(
        event=UnknownEvent(given.type, given.data, given.schema_version), tags=tuple(given.tags)
    )


def _expected(call: ApiCall[Any]) -> ExpectedVersion:
    match = call.request.headers.get("if-match")
    none = call.request.headers.get("if-none-match")
    if match is not None and none is not None:
        raise ProblemError(BAD_REQUEST, "If-Match and If-None-Match are both given; give one")
    if none is not None:
        if none.strip() != "*":
            raise ProblemError(BAD_REQUEST, "If-None-Match: only * is understood here")
        return NO_STREAM
    if match is None:
        return ANY
    if match.strip() == "*":
        return EXISTS
    version = re.fullmatch(r'"(\d{1,18})"', match.strip())
    if version is None:
        raise ProblemError(BAD_REQUEST, f'If-Match: {match[:40]!r}; write the version as "7"')
    return int(version[1])


def _key(call: ApiCall[Any]) -> UUID | None:
    text = call.request.headers.get("idempotency-key")
    if text is None:
        return None
    try:
        return UUID(text.strip().strip('"'))
    except ValueError as error:
        raise ProblemError(
            BAD_REQUEST,
            f"Idempotency-Key: {text[:60]!r} is no UUID; make a new one for each commit",
        ) from error


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/streams/{stream}/events",
        handle=append_events,
        scope="append",
        headers={
            "If-Match": 'The version that the stream is at, as "7", or * where it exists.',
            "If-None-Match": "* where the stream must not exist.",
            "Idempotency-Key": "A UUID, the commit's id: repeating it changes nothing.",
        },
        body=GivenEvents,
        answers={200: ReceiptForm, 201: ReceiptForm},
        problems=(FAILED_PRECONDITION, INVALID),
    ),
)
