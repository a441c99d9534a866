"""CloudEvents 1.0 as they come over HTTP: one in headers and body, one in JSON, or a batch.

What becomes of each attribute is what the import of a file makes of it (`exchange.cloudevents`).
The stream is the one that is written to; a ``subject`` or ``source`` of another name is kept.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import msgspec
from starlette.requests import Request

from everwhen.codec.json_encoding import decode_json, decode_object, encode_json
from everwhen.exchange.moments import micros_of
from everwhen.exchange.records import (
    UNTIMED,
    FileItem,
    ForeignEvent,
    Invalid,
    RestoredCommit,
)
from everwhen.exchange.restoring import items_of
from everwhen.vocabulary import NewEvent, UnknownEvent
from everwhen.vocabulary.microseconds import from_micros
from everwhen.web.api.event_pages import EVENT_BATCH
from everwhen.web.api.given_events import GivenMetadata
from everwhen.web.endpoints import JSON, read_as
from everwhen.web.problems import BAD_REQUEST, INVALID, ProblemError

CLOUD_EVENT: Final = "application/cloudevents+json"

_Attributes: TypeAlias = dict[str, msgspec.Raw]
_TRUE: Final = msgspec.Raw(b"true")
_OF_COMMITS: Final = ("correlationid", "causationid")


def are_cloud_events(request: Request, media: str) -> bool:
    """Whether the request's content is CloudEvents."""
    return media in (CLOUD_EVENT, EVENT_BATCH) or "ce-specversion" in request.headers


async def given_cloud_events(
    request: Request, media: str, stream: str
) -> tuple[list[NewEvent[UnknownEvent]], GivenMetadata]:
    """The events, for that stream, and what they say of their commit. Raises `ProblemError`."""
    body = await request.body()
    if media == EVENT_BATCH:
        given: list[_Attributes] = read_as(body, list[_Attributes])
    elif media == CLOUD_EVENT:
        given = [read_as(body, _Attributes)]
    else:
        given = [_of_headers(request.headers, media, body)]
    events: list[NewEvent[UnknownEvent]] = []
    told: list[GivenMetadata] = []
    for attributes in given:
        event, metadata = _new_event(attributes, stream)
        events.append(event)
        if metadata not in told:
            told.append(metadata)
    if len(told) > 1:
        raise ProblemError(
            INVALID,
            "the events are of different correlations, causes, users or sources, and one commit "
            "has one of each; send them one by one",
        )
    return events, told[0] if told else GivenMetadata()


def _of_headers(headers: Mapping[str, str], media: str, body: bytes) -> _Attributes:
    found: _Attributes = {}
    for name, value in headers.items():
        if name.startswith("ce-"):
            try:
                text = unquote(value.encode("latin-1").decode(), errors="strict")
            except UnicodeDecodeError as error:
                raise ProblemError(BAD_REQUEST, f"{name}: {value[:60]!r} is not UTF-8") from error
            found[name[3:]] = msgspec.Raw(encode_json(text))
    if media == JSON or media.endswith("+json"):
        read_as(body, Any)
        found["data"] = msgspec.Raw(body)
    elif body:
        found["data_base64"] = msgspec.Raw(encode_json(b64encode(body).decode()))
    if media and media != JSON:
        found["datacontenttype"] = msgspec.Raw(encode_json(media))
    return found


def _new_event(
    attributes: _Attributes, stream: str
) -> tuple[NewEvent[UnknownEvent], GivenMetadata]:
    told: dict[str, Any] = {}
    if "ewcommit" in attributes:  # of a page or an export of ours: as one of a selection
        attributes = {**attributes, "ewpart": _TRUE}
        attributes.pop("ewlast", None)
    else:
        for name in _OF_COMMITS:
            value = decode_json(attributes.get(name, msgspec.Raw(b"null")))
            if isinstance(value, str):
                told[name.removesuffix("id") + "_id"] = value
                del attributes[name]
    item = _item(encode_json(attributes))
    if isinstance(item, RestoredCommit):
        return _restored(item)
    if not isinstance(item, ForeignEvent):
        reason = item.reason if isinstance(item, Invalid) else "there is none"
        raise ProblemError(INVALID, f"CloudEvent: {reason}")
    extras: dict[str, Any] = {} if item.extras is None else decode_object(item.extras)
    if item.stream != stream:
        name = "subject" if "subject" in attributes else "source"
        extras.setdefault("cloudevent", {})[name] = item.stream
    event = NewEvent(
        event=UnknownEvent(item.type, decode_object(item.data), item.schema_version),
        occurred_at=None if item.time == UNTIMED else from_micros(item.time),
        event_id=item.event_id,
        extras=extras,
    )
    return event, GivenMetadata(**told)


def _item(line: bytes) -> FileItem | None:
    kinds = (ForeignEvent, RestoredCommit, Invalid)
    return next((item for item in items_of(iter([line])) if isinstance(item, kinds)), None)


def _restored(commit: RestoredCommit) -> tuple[NewEvent[UnknownEvent], GivenMetadata]:
    (entry,) = commit.entries
    occurred_at = entry.occurred_at
    event = NewEvent(
        event=UnknownEvent(entry.type, decode_object(entry.data), entry.schema_version),
        tags=entry.tags,
        occurred_at=None if occurred_at is None else from_micros(micros_of(occurred_at)),
        event_id=entry.event_id,
        extras={} if entry.extras is None else decode_object(entry.extras),
    )
    metadata = b"{}" if commit.metadata is None else commit.metadata
    return event, msgspec.json.decode(metadata, type=GivenMetadata)
