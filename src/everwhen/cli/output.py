"""Where results go: JSON Lines, plain columns in a pipe, or a look made for a terminal.

Lists are written as they are read, so a big store takes no more memory than a small one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from everwhen.cli.escaping import escaping
from everwhen.state.paths import plain
from everwhen.vocabulary.escaping import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_SIZED_BY: Final = 200
_GAP: Final = "  "
_WIDEST: Final = 40
_LEAST: Final = 12
_LAST: Final = 24
_WIDE: Final = 100


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether people look at it: a terminal, or a pipe under ``FORCE_COLOR``."""
    return stream is not None and (bool(os.environ.get("FORCE_COLOR")) or stream.isatty())


_erasers: Final[list[Callable[[], object]]] = []


@contextmanager
def erased_by(erase: Callable[[], object]) -> Iterator[None]:
    """While the block runs, ``erase`` takes away what stands in the way of whatever is written."""
    _erasers.append(erase)
    try:
        yield
    finally:
        _erasers.remove(erase)


def make_way() -> None:
    """Take away a progress line, before something is written to the terminal."""
    for erase in _erasers:
        erase()


class Column(msgspec.Struct, frozen=True):
    """A column of a list: its title, and whether its cells stand at the right.

    A ``rigid`` one is never cut; an ``optional`` one is left out where the terminal is narrow.
    """

    title: str
    right: bool = False
    rigid: bool = False
    optional: bool = False


class View(Protocol[T_contra]):
    """How one kind of thing is shown. ``cells`` has one for each column."""

    @property
    def columns(self) -> Sequence[Column]:
        """The columns in a terminal."""
        ...

    def record(self, item: T_contra, /) -> object:
        """The thing for ``--json``."""
        ...

    def plain(self, item: T_contra, /) -> Sequence[str]:
        """The thing as columns for a pipe."""
        ...

    def cells(self, item: T_contra, /) -> Sequence[Text]:
        """The thing as cells for a terminal."""
        ...


class Output:
    """Standard output, in one of three manners, each escaped as `everwhen.cli.escaping` says."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.is_terminal = not json and is_terminal(sys.stdout)

    @property
    def console(self) -> Console:
        """Standard output for people. Without colours under ``NO_COLOR`` or a dumb terminal."""
        make_way()
        return self._drawing

    @cached_property
    def _drawing(self) -> Console:
        return _console(sys.stdout)

    def list(self, items: Iterable[T], view: View[T], *, live: int | None = None) -> int:
        """Write the things as they come, and return how many.

        ``live`` hides none in buffers, and says how many are there without waiting for them.
        """
        count = 0
        if self.is_terminal:
            return self._table(items, view, _SIZED_BY if live is None else min(live, _SIZED_BY))
        for item in items:
            if self.json:
                self.line(view.record(item))
            else:
                self.row(*view.plain(item))
            if live is not None:
                sys.stdout.flush()
            count += 1
        return count

    def _table(self, items: Iterable[T], view: View[T], at_hand: int) -> int:
        rows = iter([escaped_text(cell) for cell in view.cells(item)] for item in items)
        first = list(islice(rows, max(1, at_hand)))
        if not first:
            return 0
        table = _StreamedTable(self.console, view.columns, first)
        table.head()
        count = 0
        for row in chain(first, rows):
            table.row(row)
            count += 1
        return count

    def line(self, record: object) -> None:
        """Write one JSON object on a line of its own, valid whatever the record holds."""
        make_way()
        sys.stdout.buffer.write(f"{escaped(json_text(record))}\n".encode())

    def row(self, *cells: str) -> None:
        """Write one line of columns, each of which stays in its own."""
        make_way()
        sys.stdout.buffer.write(("\t".join(map(escaped, cells)) + "\n").encode())

    def done(self, text: str) -> None:
        """Tell people that it went well."""
        from rich.text import Text

        self.console.print(Text.assemble(("✓ ", "bold green"), text))

    def fields(self, fields: Mapping[str, object]) -> None:
        """Write one thing's fields: a JSON object, or for a pipe a name and value a line."""
        if self.json:
            self.line(fields)
            return
        for name, value in fields.items():
            self.row(name, plain_value(value))


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things, as people say it: ``1 event``, ``2,000 events``."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def plain_value(value: object) -> str:
    """A field's value for a pipe: text and times as they are, all else as JSON."""
    if isinstance(value, datetime):
        return str(msgspec.to_builtins(value))
    if isinstance(value, str) and value.isprintable():
        return value
    return json_text(value)


def json_text(value: object) -> str:
    """The value as JSON, in one line: what JSON has no word for as text, and NaN as null."""
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, UnicodeEncodeError):  # odd keys, or halves of characters
        text = msgspec.json.encode(_encodable(value), enc_hook=str).decode()
    if "\n" in text:  # between the parts of data that somebody has edited
        text = msgspec.json.format(text, indent=-1)
    return text


def _encodable(value: object) -> object:
    """The same, with halves of characters written out: no reader of JSON takes them alike."""
    match value:
        case str():
            return escaped(value) if not _is_unicode(value) else value
        case msgspec.Raw():
            return value
        case dict():
            return {_encodable(str(key)): _encodable(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_encodable(part) for part in value]
        case None | bool() | int() | float() | bytes():
            return value
        case _:
            return _encodable(plain(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped_text(text: Text) -> Text:
    """The text escaped, in one line; what had to be escaped loses its colours within."""
    shown = escaped(text.plain)
    return text if shown == text.plain else type(text)(shown, text.style)


@contextmanager
def escaped_streams() -> Iterator[None]:
    """While the block runs, whatever is printed is escaped, whoever prints it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and escaping(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def messages() -> Console:
    """Standard error for people: progress, and nothing that belongs to a result."""
    return _console(sys.stderr)


def _console(file: IO[str]) -> Console:
    from everwhen.cli.safe_console import SafeConsole

    bare = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return SafeConsole(
        file=file,
        color_system=None if bare else "auto",
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


class _StreamedTable:
    """A table whose columns are sized by its first rows, and grow where later ones need it."""

    def __init__(
        self, console: Console, columns: Sequence[Column], first: Sequence[Sequence[Text]]
    ) -> None:
        self._console = console
        narrow = console.width < _WIDE
        self._shown = [i for i, c in enumerate(columns) if not (narrow and c.optional)]
        self._columns = [columns[i] for i in self._shown]
        self._widths = [len(column.title) for column in self._columns[:-1]]
        for row in first:
            self._fit([row[i] for i in self._shown])

    def _fit(self, row: Sequence[Text]) -> None:
        for index, width in enumerate(self._widths):
            self._widths[index] = max(width, min(row[index].cell_len, _WIDEST))

    def head(self) -> None:
        """Write the titles."""
        from rich.text import Text

        self._write([Text(column.title, "bold dim") for column in self._columns])

    def row(self, row: Sequence[Text]) -> None:
        """Write one row, cut to the terminal's width."""
        shown = [row[i] for i in self._shown]
        self._fit(shown)
        self._write(shown)

    def _write(self, row: Sequence[Text]) -> None:
        from rich.text import Text

        line = Text(no_wrap=True, overflow="ellipsis")
        for cell, column, width in zip(row, self._columns, self._fitted_widths(), strict=False):
            fitted = cell.copy()
            fitted.truncate(width, overflow="ellipsis")
            space = Text(" " * (width - fitted.cell_len))
            line.append_text(space + fitted if column.right else fitted + space)
            line.append(_GAP)
        line.append_text(row[-1])
        line.rstrip()
        line.truncate(self._console.width, overflow="ellipsis")
        make_way()
        self._console.print(line, overflow="ellipsis", no_wrap=True, crop=True)

    def _fitted_widths(self) -> list[int]:
        """The columns' widths, narrowed from the widest on where the last one gets too little."""
        widths = list(self._widths)
        soft = [i for i, c in enumerate(self._columns[:-1]) if not (c.rigid or c.right)]
        room = self._console.width - len(_GAP) * len(widths) - _LAST
        while soft and sum(widths) > room:
            widest = max(soft, key=lambda index: widths[index])
            if widths[widest] <= _LEAST:
                break
            widths[widest] -= 1
        return widths
