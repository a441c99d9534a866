"""The messages that are understood, as far as they are looked at. Names are the protocol's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=100_000)]


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

    store: Text | None = None
    fold: Text | None = None
    events: Text | None = None
    compensations: Text | None = None
    stream: Text | None = None
    category: Text | None = None
    branch: Text | None = None
    at: Text = "head"


class Source(msgspec.Struct, rename="camel", omit_defaults=True):
    """A page of events, as lines."""

    name: Text | None = None
    source_reference: Count | None = None
    presentation_hint: str | None = None
    origin: Text | None = None


class SourceArguments(Arguments):
    """Which source's text is wanted."""

    source_reference: Count = 0
    source: Source | None = None


class SourceBreakpoint(Arguments):
    """A breakpoint on a line."""

    line: Count
    condition: Text | None = None
    log_message: Text | None = None


class SetBreakpoints(Arguments):
    """All breakpoints of a source."""

    source: Source
    breakpoints: list[SourceBreakpoint] = []


class FunctionBreakpoint(Arguments):
    """A breakpoint on whatever ``break`` understands."""

    name: Text
    condition: Text | None = None


class SetFunctionBreakpoints(Arguments):
    """All of them."""

    breakpoints: list[FunctionBreakpoint]


class DataBreakpoint(Arguments):
    """A watch on a part of the state, or on an expression."""

    data_id: Text


class SetDataBreakpoints(Arguments):
    """All of them."""

    breakpoints: list[DataBreakpoint]


class DataBreakpointInfo(Arguments):
    """What would be watched."""

    name: Text
    variables_reference: Count = 0


class FilterOption(Arguments):
    """A filter of exceptions, with a condition."""

    filter_id: str
    condition: Text | None = None


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

    expression: Text
    frame_id: Count = 0
    context: str | None = None


class GotoTargets(Arguments):
    """A line to go to."""

    source: Source
    line: Count


class Goto(Arguments):
    """A position to go to."""

    target_id: Count
