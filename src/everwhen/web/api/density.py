"""Where events are in time: the position of a moment, and how many there are in each stretch.

Recorded times never decrease along positions, so the events of a stretch are the difference of two
positions that are found by bisection; stretches without any cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen import Query
from everwhen.errors import InvalidQueryError
from everwhen.exchange.json_forms import micros_text, utc_text
from everwhen.store._sync.moments import Moments
from everwhen.system.limits import MAX_REMEMBERED
from everwhen.vocabulary.microseconds import from_micros, to_micros
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import PlaceForm, moment_asked
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.hosting import HostedStore
from everwhen.web.problems import RETIRED

_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_WIDTHS: Final[tuple[int, ...]] = (
    *(step * 10**power for power in range(6) for step in (1, 2, 5)),
    *(seconds * _SECOND for seconds in (1, 2, 5, 10, 15, 30)),
    *(minutes * 60 * _SECOND for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * 3_600 * _SECOND for hours in (1, 2, 3, 6, 12)),
)
"""Of buckets, in microseconds: their borders are round, and so the same for most requests."""


class PositionAsked(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A moment, as people write it: ``head``, ``12``, ``2h ago``, ``stream@3``."""

    at: str


async def find_position(call: ApiCall[PositionAsked]) -> Response:
    """The last position that a moment has, and when that was recorded."""
    moment = moment_asked(call, call.asked.at)

    def found() -> PlaceForm:
        moments = Moments(call.on.blocking, Query())
        position = moments.position_of(moment)
        recorded_at = moments.recorded_at(position) if position else None
        return PlaceForm(position, None if recorded_at is None else utc_text(recorded_at))

    return json_answer(await call.hosting.compute(found))


class DensityAsked(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From when to when, as people write it, and in how many buckets at most."""

    begin: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    buckets: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 200


class Density(msgspec.Struct, frozen=True):
    """For each bucket its times, the last position by its end, and how many events it has.

    Where positions have holes, ``counts`` is how many positions it has.
    """

    starts: list[str]
    ends: list[str]
    positions: list[int]
    counts: list[int]


async def read_density(call: ApiCall[DensityAsked]) -> Response:
    """How many events were recorded when: in buckets of one width, with round borders."""
    asked = call.asked
    bounds = [
        None if text is None else moment_asked(call, text) for text in (asked.begin, asked.to)
    ]
    return json_answer(await call.hosting.compute(_density, call.on, bounds, asked.buckets))


def _density(on: HostedStore, bounds: Sequence[Any], buckets: int) -> Density:
    times = [_time_of(on, bound, is_end=at == 1) for at, bound in enumerate(bounds)]
    begin, end = times
    if begin is None or end is None:
        return Density([], [], [], [])
    if begin > end:
        raise InvalidQueryError("from is later than to; swap them")
    width = _width(begin, end, buckets)
    first, last = begin // width, end // width + 1
    head = on.blocking.head()
    closed = 0 if head.recorded_at is None else to_micros(head.recorded_at)
    borders = [number * width - 1 for number in range(first, last + 1)]
    found = _positions(borders, lambda micros: _position_at(on, micros, closed))
    return Density(
        [micros_text(border + 1) for border in borders[:-1]],
        [micros_text(border + 1) for border in borders[1:]],
        found[1:],
        [after - before for before, after in pairwise(found)],
    )


def _width(begin: int, end: int, buckets: int) -> int:
    """The smallest round width with which that many buckets are enough."""
    candidates = (*_WIDTHS, *(days * _DAY for days in (1, 2, 7, 14, 28, 91, 365)))
    for width in candidates:
        if end // width - begin // width + 1 <= buckets:
            return width
    days = -(-(end - begin) // (_DAY * max(1, buckets - 1)))
    return max(365, days + 1) * _DAY


def _positions(borders: Sequence[int], position_at: Callable[[int], int]) -> list[int]:
    """The positions at these times, which ascend; nothing is asked where nothing can be between."""
    found = [0] * len(borders)
    found[0], found[-1] = position_at(borders[0]), position_at(borders[-1])
    between = [(0, len(borders) - 1)]
    while between:
        low, high = between.pop()
        if high - low < 2:
            continue
        if found[low] == found[high]:
            found[low + 1 : high] = [found[low]] * (high - low - 1)
            continue
        middle = (low + high) // 2
        found[middle] = position_at(borders[middle])
        between += [(low, middle), (middle, high)]
    return found


def _position_at(on: HostedStore, micros: int, closed: int) -> int:
    """The last position by then; remembered where nothing more can be recorded before it."""
    known = on.closed_positions.get(micros)
    if known is None:
        known = on.blocking.position_at(from_micros(micros))
        if micros < closed:
            if len(on.closed_positions) >= MAX_REMEMBERED:
                on.closed_positions.clear()
            on.closed_positions[micros] = known
    return known


def _time_of(on: HostedStore, moment: Any, *, is_end: bool) -> int | None:
    """When a moment was, in microseconds; the first or the last event's where none is given."""
    if isinstance(moment, datetime):
        return to_micros(moment)
    if moment is None and not is_end:
        first = next(iter(on.blocking.read(Query().limit(1).skipping_retired())), None)
        return None if first is None else to_micros(first.recorded_at)
    moments = Moments(on.blocking, Query())
    position = on.blocking.head().position if moment is None else moments.position_of(moment)
    recorded_at = moments.recorded_at(position)
    return None if recorded_at is None else to_micros(recorded_at)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/positions",
        handle=find_position,
        scope="read",
        parameters=PositionAsked,
        answers={200: PlaceForm},
        problems=(RETIRED,),
    ),
    Endpoint(
        method="GET",
        path="/density",
        handle=read_density,
        scope="read",
        parameters=DensityAsked,
        answers={200: Density},
        problems=(RETIRED,),
    ),
)
