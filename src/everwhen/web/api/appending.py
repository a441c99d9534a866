"""Appending: events to a stream, under what the writer believes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from everwhen.errors import ConflictError
from everwhen.exchange.json_forms import ReceiptForm, receipt_form
from everwhen.vocabulary import ANY, EXISTS, NO_STREAM, ExpectedVersion, NewEvent, Receipt
from everwhen.web.answers import json_answer
from everwhen.web.api.cloud_events import CLOUD_EVENT, are_cloud_events, given_cloud_events
from everwhen.web.api.event_pages import EVENT_BATCH
from everwhen.web.api.given_events import (
    GivenEvents,
    GivenMetadata,
    key_of,
    metadata_for,
)
from everwhen.web.endpoints import JSON, ApiCall, Endpoint, NoParameters
from everwhen.web.problems import (
    BAD_REQUEST,
    FAILED_PRECONDITION,
    WRITING,
    ProblemError,
    problem_of,
)


async def append_events(call: ApiCall[NoParameters]) -> Response:
    """Append events to a stream, all or none.

    ``If-Match: "7"`` where the stream is at version 7, ``If-Match: *`` where it exists,
    ``If-None-Match: *`` where it doesn't: otherwise 412, and nothing is written. With an
    ``Idempotency-Key``, a UUID, it is safe to repeat for ever: the answer is the first one's.
    CloudEvents 1.0 are taken too: one in headers and body, one in JSON, or a batch.
    """
    stream = call.segment("stream")
    expected = _expected(call)
    key = key_of(call)
    events, metadata = await _given(call, stream)
    try:
        receipt = await call.on.store.append(
            stream,
            events,
            expected=expected,
            commit_id=key,
            metadata=metadata_for(call, metadata),
        )
    except ConflictError as error:
        found = problem_of(error)
        raise ProblemError(FAILED_PRECONDITION, found.detail, **found.members) from error
    return receipt_answer(call, receipt, {"ETag": f'"{receipt.versions[stream]}"'})


async def _given(
    call: ApiCall[Any], stream: str
) -> tuple[list[NewEvent[Any]], GivenMetadata | None]:
    media = call.media
    if are_cloud_events(call.request, media):
        return await given_cloud_events(call.request, media, stream)
    given: GivenEvents = await call.json()
    return [event.new_event() for event in given.events], given.metadata


def receipt_answer(
    call: ApiCall[Any], receipt: Receipt, more: Mapping[str, str] | None = None
) -> Response:
    """The receipt: 201, or 200 where it was given before; and where the commit is.

    It has ``more`` headers.
    """
    form = receipt_form(receipt)
    headers = {
        "Idempotency-Key": form.commit_id,
        "Location": f"{call.above}/commits/{form.commit_id}",
        **(more or {}),
    }
    return json_answer(form, 200 if receipt.repeated else 201, headers)


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
    version = re.fullmatch(r'"(\d{1,18})"', match.strip(), re.ASCII)
    if version is None:
        raise ProblemError(BAD_REQUEST, f'If-Match: {match[:40]!r}; write the version as "7"')
    return int(version[1])


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
        body_media=(JSON, CLOUD_EVENT, EVENT_BATCH),
        answers={200: ReceiptForm, 201: ReceiptForm},
        problems=(FAILED_PRECONDITION, *WRITING),
    ),
)
