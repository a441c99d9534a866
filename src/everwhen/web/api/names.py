"""Which types and categories there are: what a filter offers."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
from starlette.responses import Response

from everwhen import Query
from everwhen.debugging.command_parsing import declared_types
from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters

_SAMPLED: Final = 10_000
"""The newest events that are looked at for types: some tens of milliseconds' work."""
_MOST: Final = 1_000
_LAST_CHARACTER: Final = "\U0010ffff"


class TypeForm(msgspec.Struct, frozen=True):
    """A type, and how many of the newest events are of it."""

    type: str
    events: int


class TypesForm(msgspec.Struct, frozen=True):
    """Types by name. ``sampled`` is how many of the newest events were looked at for them."""

    types: list[TypeForm]
    sampled: int


async def read_types(call: ApiCall[NoParameters]) -> Response:
    """The types that are declared here, and those of the newest events."""
    store = call.on.blocking

    def found() -> TypesForm:
        newest = Query().backwards().limit(_SAMPLED).skipping_retired()
        counts = Counter(event.type for page in store.read_pages(newest) for event in page)
        counts.update(dict.fromkeys(declared_types(store), 0))
        types = [TypeForm(name, events) for name, events in sorted(counts.items())]
        return TypesForm(types, counts.total())

    return json_answer(await call.hosting.compute(found))


class CategoriesForm(msgspec.Struct, frozen=True):
    """Categories by name, the first thousand; ``more`` says whether there are others."""

    categories: list[str]
    more: bool


async def read_categories(call: ApiCall[NoParameters]) -> Response:
    """The categories of streams. Each takes a look or two, however many streams it has."""
    streams = call.on.blocking.kernel.backend.streams

    def found() -> CategoriesForm:
        names: dict[str, None] = {}
        after = ""
        while page := streams(None, after, 1):
            (info,) = page
            if len(names) == _MOST and info.category not in names:
                return CategoriesForm(sorted(names), more=True)
            names[info.category] = None
            is_alone = info.name == info.category  # others may stand before its "-"
            beyond = f"{info.category}-{_LAST_CHARACTER}"
            after = info.name if is_alone else max(info.name, beyond)
        return CategoriesForm(sorted(names), more=False)

    return json_answer(await call.hosting.compute(found))


ENDPOINTS: Final = (
    Endpoint(
        method="GET", path="/types", handle=read_types, scope="read", answers={200: TypesForm}
    ),
    Endpoint(
        method="GET",
        path="/categories",
        handle=read_categories,
        scope="read",
        answers={200: CategoriesForm},
    ),
)
