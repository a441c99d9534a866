"""Retroactive prints: what a line of code would have printed, had it been there all along."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen.debugging import sketch
from everwhen.errors import DecodeError, ExpressionError
from everwhen.exchange.json_forms import utc_text
from everwhen.expressions import Expression
from everwhen.expressions.expression import Variables
from everwhen.travel import Step
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.api.states import machine_for
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import INVALID

_MAX_SECONDS: Final = 20
_MAX_TEXT: Final = 1_000


class GivenPrint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An expression over ``event``, ``before`` and the state, after each event of the types."""

    fold: str
    expression: str
    stream: str | None = None
    category: str | None = None
    types: Annotated[tuple[str, ...], msgspec.Meta(max_length=100)] = ()
    start: str = msgspec.field(name="from", default="start")
    end: str = msgspec.field(name="to", default="head")
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200


class PrintedLine(msgspec.Struct, frozen=True):
    """What was printed after an event."""

    position: int
    recorded_at: str
    text: str


class PrintedLines(msgspec.Struct, frozen=True):
    """Lines, and how far history was looked through: ``more`` says that it goes on."""

    lines: list[PrintedLine]
    until: int
    more: bool


async def print_past(call: ApiCall[NoParameters]) -> Response:
    """Print an expression after events of the past: for 20 s at most, then go on at ``until``."""
    given: GivenPrint = await call.json()
    expression = Expression(given.expression)
    start, end = moment_asked(call, given.start), moment_asked(call, given.end)

    def printed() -> Response:
        machine = machine_for(call, given.fold, given.stream, given.category, call.on)
        first, last = machine.between(start, end)
        lines: list[PrintedLine] = []
        ends = time.monotonic() + _MAX_SECONDS
        for step in machine.replay(first, last):
            if not given.types or step.event.type in given.types:
                recorded = utc_text(step.event.recorded_at)
                lines.append(PrintedLine(step.position, recorded, _text(expression, step)))
            if len(lines) == given.limit or time.monotonic() > ends:
                return json_answer(PrintedLines(lines, step.position, step.position < last))
        return json_answer(PrintedLines(lines, last, more=False))

    return await call.hosting.compute(printed)


def _text(expression: Expression, step: Step[Any]) -> str:
    try:
        variables = Variables(step.after, event=step.event, before=step.before)
        return sketch(expression(variables), _MAX_TEXT)
    except (ExpressionError, DecodeError) as error:
        return f"({str(error).partition(chr(10))[0][:_MAX_TEXT]})"


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/prints",
        handle=print_past,
        scope="read",
        body=GivenPrint,
        answers={200: PrintedLines},
        problems=(INVALID,),
    ),
)
