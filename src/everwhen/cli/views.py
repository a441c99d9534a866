"""How recorded events, streams and documents are shown: as JSON, in a pipe, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from everwhen import RecordedEvent
from everwhen.cli.output import Column
from everwhen.exchange.json_forms import event_form, stream_form, utc_text
from everwhen.state import Document
from everwhen.vocabulary import Problem, StreamInfo

if TYPE_CHECKING:
    from rich.text import Text


class EventView:
    """Recorded events."""

    columns = (
        Column("POSITION", right=True),
        Column("RECORDED", rigid=True),
        Column("AGE", rigid=True, optional=True),
        Column("STREAM"),
        Column("VERSION", right=True),
        Column("TYPE"),
        Column("DATA"),
    )

    def record(self, event: RecordedEvent[Any]) -> object:
        """Everything that is known of the event."""
        return event_form(event)

    def plain(self, event: RecordedEvent[Any]) -> Sequence[str]:
        """Position, time, stream, version, type and data."""
        return (
            str(event.position),
            utc_text(event.recorded_at),
            event.stream,
            str(event.version),
            event.type,
            event.json.decode(),
        )

    def cells(self, event: RecordedEvent[Any]) -> Sequence[Text]:
        """The same, for people."""
        from everwhen.cli import formatting

        data = formatting.data_look(event.data)
        for tag in event.tags:
            data.append(f" #{tag}", "blue")
        return (
            formatting.number_look(event.position),
            formatting.stamp_look(event.recorded_at),
            formatting.age_look(event.recorded_at),
            formatting.stream_look(event.stream),
            formatting.number_look(event.version),
            formatting.type_look(event.type),
            data,
        )


class StreamView:
    """Streams and where they stand."""

    columns = (
        Column("STREAM"),
        Column("VERSION", right=True),
        Column("POSITION", right=True),
        Column("LAST EVENT", rigid=True),
        Column("AGE"),
    )

    def record(self, info: StreamInfo) -> object:
        """Everything that is known of the stream."""
        return stream_form(info)

    def plain(self, info: StreamInfo) -> Sequence[str]:
        """Name, version, position of the last event and its time."""
        return info.name, str(info.version), str(info.position), utc_text(info.recorded_at)

    def cells(self, info: StreamInfo) -> Sequence[Text]:
        """The same, for people."""
        from everwhen.cli import formatting

        return (
            formatting.stream_look(info.name),
            formatting.number_look(info.version),
            formatting.number_look(info.position),
            formatting.stamp_look(info.recorded_at),
            formatting.age_look(info.recorded_at),
        )


class DocumentView:
    """Streams' documents at a moment, as pairs of name and document."""

    columns = (
        Column("STREAM"),
        Column("VERSION", right=True),
        Column("TYPE"),
        Column("RECORDED", rigid=True),
        Column("AGE", rigid=True, optional=True),
        Column("DATA"),
    )

    def record(self, item: tuple[str, Document]) -> object:
        """The document and its place."""
        name, document = item
        return {
            "stream": name,
            "version": document.version,
            "position": document.position,
            "type": document.type,
            "recorded_at": utc_text(document.recorded_at),
            "data": document.data,
        }

    def plain(self, item: tuple[str, Document]) -> Sequence[str]:
        """Stream, version, type of the last event, its time, and the data."""
        name, document = item
        data = msgspec.json.encode(document.data).decode()
        return name, str(document.version), document.type, utc_text(document.recorded_at), data

    def cells(self, item: tuple[str, Document]) -> Sequence[Text]:
        """The same, for people."""
        from everwhen.cli import formatting

        name, document = item
        return (
            formatting.stream_look(name),
            formatting.number_look(document.version),
            formatting.type_look(document.type),
            formatting.stamp_look(document.recorded_at),
            formatting.age_look(document.recorded_at),
            formatting.data_look(document.data),
        )


class ProblemView:
    """Faults that a check found."""

    columns = (Column("WHERE"), Column("WHAT"))

    def record(self, problem: Problem) -> object:
        """Where and what, and whether it is a fault or only could not be compared."""
        return problem

    def plain(self, problem: Problem) -> Sequence[str]:
        """Where and what."""
        return problem.where, problem.what

    def cells(self, problem: Problem) -> Sequence[Text]:
        """Where and what, for people."""
        from rich.text import Text

        return Text(problem.where, "bold red" if problem.is_fault else "yellow"), Text(problem.what)
