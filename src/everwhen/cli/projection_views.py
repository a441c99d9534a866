"""How projections and what they have left out are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from everwhen.cli.output import Column
from everwhen.exchange.json_forms import utc_text
from everwhen.exchange.projection_forms import parked_form, status_form
from everwhen.projections import ParkedEvent, ProjectionStatus

if TYPE_CHECKING:
    from rich.text import Text

_COLOURS: Final = {
    "live": "bold green",
    "building": "yellow",
    "halted": "bold red",
    "beyond": "bold red",
}


def _heard(status: ProjectionStatus) -> str:
    return utc_text(status.updated_at) if status.updated_at is not None else ""


def _lag_look(lag: int | None) -> Text:
    from rich.text import Text

    if lag is None:
        return Text("beyond the end", "bold red")
    return Text(f"{lag:,}", "yellow" if lag else "green")


def _notice(status: ProjectionStatus) -> str:
    if not status.is_mixed:
        return ""
    return "its functions have changed, but not its version: raise the version, or rebuild"


class StatusView:
    """Projections and reactions, and where they stand."""

    columns = (
        Column("NAME"),
        Column("KIND", optional=True),
        Column("VERSION", right=True),
        Column("STATE", rigid=True),
        Column("POSITION", right=True),
        Column("LAG", right=True),
        Column("RATE", right=True),
        Column("PARKED", right=True),
        Column("SKIPPED", right=True),
        Column("HEARD", rigid=True),
        Column("ERROR"),
    )

    def record(self, status: ProjectionStatus) -> object:
        """Everything that is known of it."""
        return status_form(status)

    def plain(self, status: ProjectionStatus) -> Sequence[str]:
        """The same, in columns."""
        return (
            status.name,
            status.kind,
            str(status.version),
            str(status.build),
            status.state,
            str(status.position),
            "" if status.lag is None else str(status.lag),
            f"{status.rate:.1f}",
            str(status.parked),
            str(status.skipped),
            _heard(status),
            status.error or _notice(status),
        )

    def cells(self, status: ProjectionStatus) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        from everwhen.cli import formatting

        def alarming(count: int) -> Text:
            return Text(f"{count:,}", "bold red" if count else "dim")

        return (
            Text(status.name, "bold"),
            Text(status.kind, "dim"),
            Text(f"{status.version}.{status.build}"),
            Text(status.state, _COLOURS.get(status.state, "")),
            formatting.number_look(status.position),
            _lag_look(status.lag),
            Text(f"{status.rate:,.0f}/s", "dim"),
            alarming(status.parked),
            alarming(status.skipped),
            formatting.age_look(status.updated_at) if status.updated_at else Text(""),
            Text(status.error or _notice(status), "red" if status.error else "yellow"),
        )


class ParkedView:
    """Events that a projection has left out for later."""

    columns = (
        Column("POSITION", right=True),
        Column("STREAM"),
        Column("TYPE"),
        Column("PARKED", rigid=True),
        Column("ERROR"),
    )

    def record(self, parked: ParkedEvent) -> object:
        """Everything that is known of it."""
        return parked_form(parked)

    def plain(self, parked: ParkedEvent) -> Sequence[str]:
        """The same, in columns."""
        at = utc_text(parked.at)
        return str(parked.position), parked.stream, parked.type, at, parked.error or ""

    def cells(self, parked: ParkedEvent) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        from everwhen.cli import formatting

        waiting = Text("waits for an earlier event of its stream", "dim")
        return (
            formatting.number_look(parked.position),
            formatting.stream_look(parked.stream),
            formatting.type_look(parked.type),
            formatting.age_look(parked.at),
            Text(parked.error, "red") if parked.error else waiting,
        )
