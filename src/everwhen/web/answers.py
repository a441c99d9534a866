"""Answers: JSON with what caches need to know, and nothing that they must not keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from everwhen.codec.json_encoding import encode_json
from everwhen.web.endpoints import JSON
from everwhen.web.problems import NOT_ACCEPTABLE, ProblemError

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
    request: Request,
    value: Any,
    etag: str,
    *,
    cached: str = REVALIDATED,
    media: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The value under its entity tag (without quotes): 304 where the caller has it already.

    The value may be bytes, or else is encoded as JSON; a function is only called where needed.
    """
    headers = {"ETag": f'"{etag}"', "Cache-Control": cached, **(headers or {})}
    if is_known(request, etag):
        return Response(None, 304, headers)
    made = value() if callable(value) else value
    return Response(made if isinstance(made, bytes) else encode_json(made), 200, headers, media)


def is_known(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names the tag (RFC 9110: compared weakly)."""
    given = request.headers.get("if-none-match", "")
    known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return f'"{etag}"' in known or "*" in known


def content_tag(content: bytes) -> str:
    """An entity tag that stands for exactly this content."""
    return blake2b(content, digest_size=12).hexdigest()


def accepted(request: Request, offered: Sequence[str]) -> str:
    """The media type among those offered that the caller likes best, the first where it is equal.

    Raises `ProblemError` where none will do (RFC 9110).
    """
    given = request.headers.get("accept", "*/*")
    if given == "*/*":
        return offered[0]
    weights = dict(_weight(part) for part in given.lower().split(","))
    best, most = "", 0.0
    for media in offered:
        kind = media.partition("/")[0] + "/*"
        weight = weights.get(media, weights.get(kind, weights.get("*/*", 0.0)))
        if weight > most:
            best, most = media, weight
    if not best:
        raise ProblemError(
            NOT_ACCEPTABLE, f"Accept: {given[:100]}: this comes as {', '.join(offered)}"
        )
    return best


def _weight(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media, float(value)
            except ValueError:
                return media, 0.0
    return media, 1.0
