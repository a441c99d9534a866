"""Answers: JSON with what caches need to know, and nothing that they must not keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from everwhen.codec.json_encoding import encode_json

JSON: Final = "application/json"
IMMUTABLE: Final = "private, max-age=31536000, immutable"
REVALIDATED: Final = "private, no-cache"


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The value as JSON. Nothing keeps it, unless the headers say otherwise."""
    return Response(
        encode_json(value), status, {"Cache-Control": "no-store", **(headers or {})}, JSON
    )


def tagged_answer(
    request: Request, value: Any, etag: str, *, cached: str = REVALIDATED, media: str = JSON
) -> Response:
    """The value under its entity tag (without quotes): 304 where the caller has it already.

    The value may be bytes, or else is encoded as JSON; a function is only called where needed.
    """
    headers = {"ETag": f'"{etag}"', "Cache-Control": cached}
    if is_known(request, etag):
        return Response(None, 304, headers)
    made = value() if callable(value) else value
    return Response(made if isinstance(made, bytes) else encode_json(made), 200, headers, media)


def is_known(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names the tag (RFC 9110: compared weakly)."""
    given = request.headers.get("if-none-match", "")
    known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return f'"{etag}"' in known or "*" in known
