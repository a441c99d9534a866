"""The OpenAPI 3.1 document: made from the endpoints, so that it can't say anything else."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import metadata
from types import UnionType
from typing import Any, Final, get_args

import msgspec
from starlette.responses import Response

from everwhen.web.answers import json_answer
from everwhen.web.endpoints import JSON, ApiCall, Endpoint, NoParameters, is_several
from everwhen.web.problems import EVERY_PROBLEM, TYPES, ProblemKind

_REFERENCES: Final = "#/components/schemas/{name}"
_ALWAYS: Final = (
    "bad-request",
    "unauthenticated",
    "forbidden",
    "unknown",
    "headers-too-large",
    "fault",
    "unavailable",
)
_OF_HISTORY: Final = ("retired",)

_OF_BODIES: Final = ("unsupported-media-type", "too-large", "invalid")


def openapi_endpoint(endpoints: Iterable[Endpoint]) -> Endpoint:
    """The endpoint that gives the document of these, and of itself."""
    declared = tuple(endpoints)

    @lru_cache(1)
    def document() -> dict[str, Any]:
        return openapi_document((*declared, own))

    async def openapi(call: ApiCall[NoParameters]) -> Response:  # noqa: ARG001
        """This document."""
        return json_answer(document())

    own = Endpoint(
        method="GET",
        path="/openapi.json",
        handle=openapi,
        scope="read",
        answers={200: dict[str, Any]},
        of_branch=False,
    )
    return own


def openapi_document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document of these endpoints."""
    declared = tuple(endpoints)
    types = [t for e in declared for t in (e.body, *e.answers.values()) if not _is_media(t)]
    parts = [part for kind in types for part in _alternatives(kind)]
    schemas, components = msgspec.json.schema_components(parts, ref_template=_REFERENCES)
    each = iter(schemas)
    of_type: dict[int, Any] = {}
    for kind in types:
        found = [next(each) for _ in _alternatives(kind)]
        of_type[id(kind)] = found[0] if len(found) == 1 else {"anyOf": found}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in declared:
        places = [endpoint.path]
        if endpoint.of_branch:
            places.append("/branches/{branch}" + endpoint.path)
        for place in places:
            operation = _operation(endpoint, place, of_type)
            paths.setdefault(f"/v1{place}".rstrip("/"), {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Everwhen",
            "version": metadata.version("everwhen"),
            "description": "Events, any state they ever led to, and how it came about.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}, {}],
    }


_PROBLEM: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "RFC 9457. `type` leads to a page that says what to do.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"enum": [TYPES + problem.name for problem in EVERY_PROBLEM]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """What an answer may be: several untagged structs are no type to msgspec, which reads none."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _is_media(answer: Any) -> bool:
    return answer is None or isinstance(answer, str)


def _operation(endpoint: Endpoint, place: str, of_type: Mapping[int, Any]) -> dict[str, Any]:
    words = inspect.cleandoc(endpoint.handle.__doc__ or "")
    on_branch = place.startswith("/branches/{branch}") and endpoint.path != place
    operation: dict[str, Any] = {
        "operationId": endpoint.name + ("_of_branch" if on_branch else ""),
        "summary": words.partition("\n")[0],
        "description": words,
        "parameters": [
            *(
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1},
                }
                for name in re.findall(r"\{(\w+)\}", place)
            ),
            *_parameters(endpoint.parameters),
            *(
                {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}
                for name, words in endpoint.headers.items()
            ),
        ],
        "responses": {
            str(status): _response(endpoint, answer, of_type)
            for status, answer in endpoint.answers.items()
        }
        | _problems(endpoint),
        "x-scope": endpoint.scope,
    }
    if endpoint.body is not None:
        schema = of_type[id(endpoint.body)]
        operation["requestBody"] = {
            "required": True,
            "content": {
                media: {"schema": schema} if media == JSON else {} for media in endpoint.body_media
            },
        }
    return operation


def _parameters(kind: type[NoParameters]) -> Iterable[dict[str, Any]]:
    for field in msgspec.structs.fields(kind):
        ((schema,), _) = msgspec.json.schema_components([field.type], ref_template=_REFERENCES)
        yield {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": schema,
            **({"style": "form", "explode": True} if is_several(field.type) else {}),
        }


def _response(endpoint: Endpoint, answer: Any, of_type: Mapping[int, Any]) -> dict[str, Any]:
    if answer is None:
        return {"description": "Nothing to say"}
    if isinstance(answer, str):
        return {"description": answer, "content": {answer: {}}}
    content: dict[str, Any] = {
        media: {"schema": of_type[id(answer)]} if media == JSON else {} for media in endpoint.media
    }
    return {"description": "Done", "content": content}


def _problems(endpoint: Endpoint) -> dict[str, Any]:
    by_status: dict[int, list[ProblemKind]] = {}
    named = {problem.name: problem for problem in EVERY_PROBLEM}
    always = [
        *_ALWAYS,
        *(_OF_BODIES if endpoint.body is not None else ()),
        *(_OF_HISTORY if endpoint.of_branch else ()),
    ]
    for problem in (*(named[name] for name in always), *endpoint.problems):
        by_status.setdefault(problem.status, []).append(problem)
    return {
        str(status): {
            "description": "; ".join(sorted({problem.title for problem in problems})),
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status, problems in sorted(by_status.items())
    }
