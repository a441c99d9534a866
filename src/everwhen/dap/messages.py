"""The messages that are understood, as far as they are looked at. Names are the protocol's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
MessageText: TypeAlias = Annotated[str, msgspec.Meta(max_length=100_000)]


class Request(msgspec.Struct):
    """What a client asks."""

    seq: Count
    command: str
    type: Literal["request"]
    arguments: Any = None


class Arguments(msgspec.Struct, rename="camel", omit_defaults=True):
    """What comes with a request that takes nothing we look at."""


class LaunchArguments(Arguments):
    """What to debug: as on the command line."""

    store: MessageText | None = None
    fold: MessageText | None = None
    events: MessageText | None = None
    compensations: MessageText | None = None
    stream: MessageText | None = None
    category: MessageText | None = None
    branch: MessageText | None = None
    at: MessageText = "head"


class SourcePage(msgspec.Struct, rename="camel", omit_defaults=True):
    """A page of events, as lines."""

    name: MessageText | None = None
    source_reference: Count | None = None
    presentation_hint: str | None = None
    origin: MessageText | None = None


class SourceArguments(Arguments):
    """Which source's text is wanted."""

    source_reference: Count = 0
    source: SourcePage | None = None


class SourceBreakpoint(Arguments):
    """A breakpoint on a line."""

    line: Count
    condition: MessageText | None = None
    log_message: MessageText | None = None


class SetBreakpoints(Arguments):
    """All breakpoints of a source."""

    source: SourcePage
    breakpoints: list[SourceBreakpoint] = []


class FunctionBreakpoint(Arguments):
    """A breakpoint on whatever ``break`` understands."""

    name: MessageText
    condition: MessageText | None = None


class SetFunctionBreakpoints(Arguments):
    """All of them."""

    breakpoints: list[FunctionBreakpoint]


class DataBreakpoint(Arguments):
    """A watch on a part of the state, or on an expression."""

    data_id: MessageText


class SetDataBreakpoints(Arguments):
    """All of them."""

    breakpoints: list[DataBreakpoint]


class DataBreakpointInfo(Arguments):
    """What would be watched."""

    name: MessageText
    variables_reference: Count = 0


class FilterOption(Arguments):
    """A filter of exceptions, with a condition."""

    filter_id: str
    condition: MessageText | None = None


class SetExceptionBreakpoints(Arguments):
    """All filters that are on."""

    filters: list[str] = []
    filter_options: list[FilterOption] = []


class StackTrace(Arguments):
    """Which frames are wanted."""

    start_frame: Count = 0
    levels: Count = 0


class OfFrame(Arguments):
    """A frame."""

    frame_id: Count


class VariablesArguments(Arguments):
    """Which parts are wanted."""

    variables_reference: Count
    filter: Literal["indexed", "named"] | None = None
    start: Count = 0
    count: Count = 0


class Evaluate(Arguments):
    """An expression, and where."""

    expression: MessageText
    frame_id: Count = 0
    context: str | None = None


class GotoTargets(Arguments):
    """A line to go to."""

    source: SourcePage
    line: Count


class Goto(Arguments):
    """A position to go to."""

    target_id: Count
