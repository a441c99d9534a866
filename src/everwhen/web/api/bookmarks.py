"""Bookmarks: names of places in history, for everyone who travels in the store."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen import Query, TimeMachine, document
from everwhen.errors import InvalidQueryError
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.machines import AnyMachine
from everwhen.web.problems import INVALID, UNKNOWN, ProblemError

_MAX_BOOKMARKS: Final = 1_000
_MAX_NAME: Final = 100


class BookmarkForm(msgspec.Struct, frozen=True):
    """A name, and the position that it stands for."""

    name: str
    position: int


class BookmarkList(msgspec.Struct, frozen=True):
    """All bookmarks, in the order of their positions."""

    bookmarks: list[BookmarkForm]


class GivenBookmark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name for a moment."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_NAME)]
    at: str = "head"


def _machine(call: ApiCall[Any]) -> AnyMachine:
    return TimeMachine(call.on.blocking, document, Query(), keep=False)


async def read_bookmarks(call: ApiCall[NoParameters]) -> Response:
    """The bookmarks of this branch. ``@name`` is a moment wherever one is asked for."""

    def found() -> BookmarkList:
        known = _machine(call).bookmarks().items()
        by_place = sorted(known, key=lambda item: (item[1], item[0]))
        return BookmarkList([BookmarkForm(*item) for item in by_place])

    return json_answer(await call.hosting.compute(found))


async def set_bookmark(call: ApiCall[NoParameters]) -> Response:
    """Give a moment a name; a name that is taken moves."""
    given: GivenBookmark = await call.json()
    moment = moment_asked(call, given.at)

    def made() -> BookmarkForm:
        machine = _machine(call)
        known = machine.bookmarks()
        if len(known) >= _MAX_BOOKMARKS and given.name not in known:
            raise InvalidQueryError(f"there are {len(known):,} bookmarks; delete one")
        return BookmarkForm(given.name, machine.set_bookmark(given.name, moment))

    return json_answer(await call.hosting.compute(made), 201)


async def delete_bookmark(call: ApiCall[NoParameters]) -> Response:
    """Forget a bookmark."""
    name = call.segment("name")

    def delete() -> None:
        machine = _machine(call)
        if name not in machine.bookmarks():
            raise ProblemError(UNKNOWN, f"there is no bookmark {name[:_MAX_NAME]!r}")
        machine.delete_bookmark(name)

    await call.hosting.compute(delete)
    return Response(None, 204)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/bookmarks",
        handle=read_bookmarks,
        scope="read",
        answers={200: BookmarkList},
    ),
    Endpoint(
        method="POST",
        path="/bookmarks",
        handle=set_bookmark,
        scope="operate",
        body=GivenBookmark,
        answers={201: BookmarkForm},
        problems=(INVALID,),
    ),
    Endpoint(
        method="DELETE",
        path="/bookmarks/{name}",
        handle=delete_bookmark,
        scope="operate",
        answers={204: None},
    ),
)
