"""What Tab offers at ``(timedb)``: commands, paths, types, streams, bookmarks, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final

from everwhen.cli.debugger.commands import COMMANDS, command_of
from everwhen.debugging import Session, known_types
from everwhen.state.paths import keys_of, nearest, path_of, text_of, value_at
from everwhen.vocabulary.errors import InvalidPathError, InvalidQueryError

_OFFERED: Final = 200
_LOOKED_AT: Final = 5_000
_WORD: Final = re.compile(r"""[^\s()&|!<>=,+*/%?]*$""")
_PARENT: Final = re.compile(r"(?P<parent>.*?)(?P<last>\.[^.\[\]]*|\[[^\]]*|[^.\[\]]*)$")


def candidates(session: Session, line: str) -> tuple[str, list[str]]:
    """The word that was begun at the end of a line, and what it may become."""
    name, space, rest = line.lstrip().partition(" ")
    if not space:
        return name, _fitting(name, (command.name for command in COMMANDS))
    match = _WORD.search(rest)
    begun = match[0] if match else ""
    try:
        kind = command_of(name).completes
    except InvalidQueryError:
        return begun, []
    if kind == "break":
        in_condition = re.search(r"(?:^|\s)if\s", rest) is not None
        kind = "path" if in_condition else "events"
    return begun, _fitting(begun, _offers(session, kind, begun))


def _offers(session: Session, kind: str, begun: str) -> Iterable[str]:
    match kind:
        case "path":
            return paths(session, begun)
        case "events":
            streams = (info.name for info in islice(session.store.streams(), _LOOKED_AT))
            words = ("if", "unless", "list", "delete", "disable", "enable", "type", "stream")
            return (*sorted(known_types(session.store)), *streams, *words)
        case "moment":
            marks = (f"@{name}" for name in session.machine.bookmarks())
            return (*marks, "head", "start", "yesterday", "now")
        case "bookmark":
            return (*session.machine.bookmarks(), "delete")
        case "number":
            return (str(one.number) for one in session.breakpoints)
        case "command":
            return (command.name for command in COMMANDS)
        case _:
            return ()


def paths(session: Session, begun: str) -> Iterable[str]:
    """The paths of the parts that are in the part that was begun."""
    match = _PARENT.fullmatch(begun)
    written = match["parent"] if match is not None else ""
    try:
        path = path_of(written)
    except InvalidPathError:
        return ()
    state = session.state
    here, _ = nearest(state, path)
    if len(here) < len(path):
        return ()
    part = value_at(state, path)
    return (text_of((*path, key)) for key in islice(keys_of(part), _LOOKED_AT))


def _fitting(begun: str, offers: Iterable[str]) -> list[str]:
    unique = dict.fromkeys(offer for offer in offers if offer.startswith(begun))
    return list(islice(unique, _OFFERED))
