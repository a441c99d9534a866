"""Commits: writes to several streams together, and what one has written."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from starlette.responses import Response

from everwhen import Commit, Write
from everwhen.codec.json_encoding import encode_json
from everwhen.exchange.json_forms import EventForm, ReceiptForm, event_form, utc_text
from everwhen.web.answers import REVALIDATED, content_tag, tagged_answer
from everwhen.web.api.appending import receipt_answer
from everwhen.web.api.given_events import (
    GivenCondition,
    GivenMetadata,
    GivenWrite,
    key_of,
    metadata_for,
    uuid_of,
)
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import (
    CONDITION,
    CONFLICT,
    RETIRED,
    SEALED,
    UNKNOWN,
    WRITING,
    ProblemError,
)


class GivenCommit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Writes that take effect together or not at all, in this order."""

    writes: Annotated[list[GivenWrite], msgspec.Meta(min_length=1)]
    condition: GivenCondition | None = None
    metadata: GivenMetadata | None = None


class CommitForm(msgspec.Struct, frozen=True):
    """A commit's events, in order, and where the last one stands."""

    commit_id: str
    position: int
    recorded_at: str
    events: list[EventForm]


async def write_commit(call: ApiCall[NoParameters]) -> Response:
    """Write to several streams, all or nothing.

    Where a stream isn't at its expected version, or something that the condition's query selects
    has come after its position: 409, and nothing is written. With an ``Idempotency-Key``, a UUID,
    it is safe to repeat for ever: the answer is the first one's.
    """
    key = key_of(call)
    given: GivenCommit = await call.json()
    writes = [
        Write(write.stream, [event.new_event() for event in write.events], write.belief)
        for write in given.writes
    ]
    condition = None if given.condition is None else given.condition.condition()
    commit = Commit(writes, condition, key, metadata_for(call, given.metadata))
    return receipt_answer(call, await call.on.store.commit(commit))


async def read_commit(call: ApiCall[NoParameters]) -> Response:
    """What a commit has written. This settles whether an append that got no answer took place."""
    commit_id = uuid_of(call.segment("commit"), "commit")
    events = await call.on.store.commit_events(commit_id)
    if not events:
        raise ProblemError(UNKNOWN, f"there is no commit {commit_id}", commit_id=str(commit_id))
    last = events[-1]
    form = CommitForm(
        str(commit_id),
        last.position,
        utc_text(last.recorded_at),
        [event_form(event) for event in events],
    )
    body = encode_json(form)
    return tagged_answer(call.request, body, content_tag(body), cached=REVALIDATED)


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/commits",
        handle=write_commit,
        scope="append",
        headers={"Idempotency-Key": "A UUID, the commit's id: repeating it changes nothing."},
        body=GivenCommit,
        answers={200: ReceiptForm, 201: ReceiptForm},
        problems=(CONFLICT, CONDITION, *WRITING),
    ),
    Endpoint(
        method="GET",
        path="/commits/{commit}",
        handle=read_commit,
        scope="read",
        answers={200: CommitForm, 304: None},
        problems=(RETIRED, SEALED),
    ),
)
