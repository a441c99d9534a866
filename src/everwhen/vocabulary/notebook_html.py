"""HTML for notebooks: small pieces that are safe to show, and fit any theme.

Text is hostile until it is escaped, and only `element` makes HTML: what isn't `Html` is text to it.
Styles are inline, so that an output is complete in itself and changes no other. Colours are mixed
with that of the text around: a notebook that is dark need not say so. There are no scripts, and
of rows and long text only the beginning is shown, with how much is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.escaping import escaped

MOST_ROWS: Final = 50
"""A screen or two; whoever wants more has a data frame."""
_MOST_FACTS: Final = 20
"""Of tags, streams or types in a line."""
_LONGEST_TEXT: Final = 240
"""A few lines in a cell."""
_LONGEST_PIECE: Final = 400
"""Of any text at all: messages of errors, say."""


def _tinted(tint: str) -> str:
    return f"color:color-mix(in srgb,currentColor 35%,{tint})"


PLAIN: Final = ""
STRONG: Final = "font-weight:600"
DIM: Final = "opacity:.7"
CODE: Final = "font-family:ui-monospace,monospace"
GOOD: Final = f"{_tinted('#0a9a50')};font-weight:600"
BAD: Final = f"{_tinted('#f0443a')};font-weight:600"
WARNING: Final = f"{_tinted('#c97a00')};font-weight:600"
_LINE: Final = "color-mix(in srgb,currentColor 16%,transparent)"
_CARD: Final = (
    f"margin:.4em 0;padding:.1em 0 .1em .9em;border-left:3px solid {_LINE};line-height:1.5;"
    "text-align:left;overflow-x:auto;max-width:80em"
)
_TABLE: Final = "border-collapse:collapse;border:0;margin:.3em 0;font-size:inherit"
_CELL: Final = "text-align:left;vertical-align:top;padding:.15em 1.4em .15em 0;border:0"
_NUMBER: Final = (
    "text-align:right;vertical-align:top;padding:.15em 1.4em .15em 0;border:0;"
    "font-variant-numeric:tabular-nums"
)
_HEADING: Final = f"font-weight:normal;{DIM};border-bottom:1px solid {_LINE};white-space:nowrap"


class Html(msgspec.Struct, frozen=True):
    """HTML that is safe to show: made by `element` and `joined` only."""

    source: str


Cell: TypeAlias = Html | str | int | datetime | None
"""What stands in a table: a number is set to the right, a time is shown in UTC."""


class TableRow(msgspec.Struct, frozen=True):
    """A value as a line of a table: the names of its columns, and its cells."""

    columns: tuple[str, ...]
    cells: tuple[Cell, ...]


class HasRow(Protocol):
    """A value that is shown as a line of a table, among others of its kind."""

    def _html_row_(self) -> TableRow: ...


def element(name: str, *children: Html | str, look: str = PLAIN, **attributes: str) -> Html:
    """An element; children that are text are escaped. Names and looks are constants of ours."""
    if look:
        attributes = {"style": look, **attributes}
    given = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{joined(*children).source}</{name}>")


def joined(*children: Html | str) -> Html:
    """Pieces one after the other; those that are text are escaped."""
    return Html("".join(one.source if isinstance(one, Html) else _text(one) for one in children))


def _text(text: str) -> str:
    return escape(escaped(shortened(text, _LONGEST_PIECE)))


def shortened(text: str, longest: int = _LONGEST_TEXT, *, unseen: int = 0) -> str:
    """A text, or its beginning and how much follows; ``unseen`` characters more weren't given."""
    left_out = len(text) + unseen - longest
    return text if left_out <= 0 else f"{text[:longest]}… {left_out:,} more characters"


def looking(look: str, *children: Html | str) -> Html:
    """Text with a look."""
    return element("span", *children, look=look)


def value(text: str) -> Html:
    """Text that is data. It is set apart from what stands beside it, whichever way it is read."""
    return element("bdi", text, look=CODE)


def time_text(moment: datetime) -> str:
    """A moment in UTC, to the second."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


def listed(texts: Sequence[str], most: int = _MOST_FACTS) -> str:
    """Texts in a line; those beyond the first few are counted."""
    more = f", … {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(shortened(text, 80) for text in texts[:most]) + more


def counted(count: int, noun: str) -> str:
    """A number of things, whose plural is regular."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def more(count: int, noun: str) -> Html:
    """How many are left out; nothing if none are."""
    return looking(DIM, f"… {counted(count, f'more {noun}')}") if count > 0 else Html("")


def heading(kind: str, title: Html | str, *facts: str) -> Html:
    """What is shown, and what is to be known of it at a glance; empty facts are left out."""
    known = " · ".join(fact for fact in facts if fact)
    return element(
        "div",
        looking(f"{DIM};margin-right:.8em", kind),
        element("bdi", title, look=STRONG),
        looking(f"{DIM};margin-left:1.2em", known),
    )


def card(*parts: Html) -> str:
    """The whole output of a value."""
    return element("div", *parts, look=_CARD).source


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    total: int,
    noun: str,
    *,
    most: int = MOST_ROWS,
) -> Html:
    """A table of the first rows, of which there are ``total``."""
    shown = [list(row) for row in islice(rows, most)]
    if not shown:
        return Html("")
    numeric = [any(isinstance(cell, int) for cell in column) for column in zip(*shown, strict=True)]
    names = (
        element("th", name, look=f"{_NUMBER if right else _CELL};{_HEADING}", scope="col")
        for name, right in zip(columns, numeric, strict=bool(columns))
    )
    head = element("thead", element("tr", *names)) if columns else Html("")
    lines = (element("tr", *map(_cell, row)) for row in shown)
    whole = element("table", head, element("tbody", *lines), look=_TABLE)
    return joined(whole, more(total - len(shown), noun))


def _cell(cell: Cell) -> Html:
    match cell:
        case Html() | str():
            return element("td", cell, look=_CELL)
        case int():
            return element("td", f"{cell:,}", look=_NUMBER)
        case datetime():
            return element("td", time_text(cell), look=f"{_CELL};white-space:nowrap;{DIM}")
        case _:
            return element("td", look=_CELL)


def rows_table(items: Sequence[HasRow], noun: str) -> Html:
    """A table of values of one kind."""
    if not items:
        return Html("")
    rows = (item._html_row_().cells for item in items)
    return table(items[0]._html_row_().columns, rows, len(items), noun)


class Table:
    """Values of one kind as a table, in a notebook: events, steps, states, branches and so on.

    ``items`` may be any iterable; of an iterator the first ``most`` are taken, at once. Raises
    `DeclarationError` for values that have no line in a table, or are of several kinds.
    """

    def __init__(self, items: Iterable[Any], *, most: int = MOST_ROWS) -> None:
        taken = items if isinstance(items, Collection) else list(islice(items, most + 1))
        self._is_whole = taken is items or len(taken) <= most
        self._total = min(len(taken), len(taken) if self._is_whole else most)
        self._rows = [_row_of(item) for item in islice(taken, most)]
        if len({row.columns for row in self._rows}) > 1:
            raise DeclarationError("Table: the values are of several kinds; make a table of each")

    def __repr__(self) -> str:
        return f"<Table of {self._words}>"

    @property
    def _words(self) -> str:
        return counted(self._total, "row") if self._is_whole else f"the first {self._total:,} rows"

    def _repr_html_(self) -> str:
        columns = self._rows[0].columns if self._rows else ()
        rows = (row.cells for row in self._rows)
        shown = table(columns, rows, len(self._rows), "row", most=len(self._rows))
        left_out = more(self._total - len(self._rows), "row")
        return card(shown, left_out if left_out.source else looking(DIM, self._words))


def _row_of(item: object) -> TableRow:
    try:
        row: TableRow = item._html_row_()  # type: ignore[attr-defined]
    except AttributeError as error:
        raise DeclarationError(
            f"Table: {item!r:.80} has no line in a table; give events, steps, states, values of a "
            f"history, changes, branches or statuses"
        ) from error
    return row
