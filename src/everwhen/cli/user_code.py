"""A user's own code: event types and folds, named as ``module:name`` on the command line.

Only what the user names is imported, and only from this machine; nothing in a store leads here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from everwhen import Decisions, EventTypes, Fold, Projection, TableProjection
from everwhen.cli.exit_codes import USAGE, CommandStop
from everwhen.merging import Invariant
from everwhen.undo import Compensations
from everwhen.vocabulary import EventType


def event_types(named: str | None) -> EventTypes | None:
    """The event types that ``--events`` names: an `EventTypes`, a class, or several classes."""
    if named is None:
        return None
    found = _imported(named, "--events")
    if isinstance(found, EventTypes):
        return found
    if isinstance(found, type | EventType):
        return EventTypes(found)
    if isinstance(found, Iterable) and not isinstance(found, str | bytes):
        classes = list(found)
        if classes and all(isinstance(c, type | EventType) for c in classes):
            return EventTypes(*classes)
    raise _expected(
        "--events", named, "an EventTypes, an event class, or a list of event classes", found
    )


def fold(named: str) -> Fold[Any]:
    """The fold that ``--fold`` names."""
    found = _imported(named, "--fold")
    if not isinstance(found, Fold):
        raise _expected("--fold", named, "an everwhen.Fold", found)
    return found


def application(named: str) -> Callable[..., Any]:
    """What ``--app`` names: a function that makes the web application of an open store."""
    found = _imported(named, "--app")
    if isinstance(found, type) or not callable(found):
        raise _expected("--app", named, "a function that takes a store", found)
    return found


def derivations(named: Iterable[str]) -> list[Fold[Any] | Projection[Any] | TableProjection]:
    """The folds and projections that ``--of`` names, each by itself or several in a collection."""
    kinds = (Fold, Projection, TableProjection)
    what = "a Fold, a Projection, a TableProjection, or a list of them"
    return [one for name in named for one in _each(name, "--of", kinds, what)]


def projections(named: Iterable[str]) -> list[Projection[Any] | TableProjection]:
    """What ``--projection`` names, each by itself or several in a collection."""
    kinds = (Projection, TableProjection)
    what = "a Projection, a TableProjection, or a list of them"
    return [one for name in named for one in _each(name, "--projection", kinds, what)]


def _each(named: str, option: str, kinds: tuple[type, ...], what: str) -> Iterator[Any]:
    given = _imported(named, option)
    several = [given]
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        several = list(given)
    for one in several:
        if not isinstance(one, kinds):
            raise _expected(option, named, what, one)
        yield one


def compensations(named: str) -> Compensations:
    """The compensations that ``--compensations`` names."""
    found = _imported(named, "--compensations")
    if not isinstance(found, Compensations):
        raise _expected("--compensations", named, "an everwhen.undo.Compensations", found)
    return found


def decisions(named: str) -> Decisions:
    """The decisions that ``--decisions`` names."""
    found = _imported(named, "--decisions")
    if not isinstance(found, Decisions):
        raise _expected("--decisions", named, "an everwhen.Decisions", found)
    return found


def invariants(named: str) -> list[Invariant[Any]]:
    """The invariants that ``--invariants`` names: one, or several."""
    found = _imported(named, "--invariants")
    if isinstance(found, Invariant):
        return [found]
    if isinstance(found, Iterable) and not isinstance(found, str | bytes):
        several = list(found)
        if several and all(isinstance(one, Invariant) for one in several):
            return several
    raise _expected(
        "--invariants", named, "an everwhen.merging.Invariant, or a list of them", found
    )


def _imported(named: str, option: str) -> object:
    module_name, colon, name = named.partition(":")
    if not colon or not module_name or not name:
        raise CommandStop(
            f"{option} {named}: write it as module:name, such as shop.orders:total", USAGE
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise CommandStop(
            f"{option} {named}: there is no module {error.name!r}, in {here} or installed; "
            f"check the name",
            USAGE,
        ) from error
    except Exception as error:
        raise CommandStop(
            f"{option} {named}: importing {module_name} failed with {type(error).__name__}: "
            f"{error}",
            USAGE,
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise CommandStop(
                f"{option} {named}: there is no {name!r} in {module_name}; check the name", USAGE
            )
        found = getattr(found, part)
    return found


def _expected(option: str, named: str, what: str, found: object) -> CommandStop:
    return CommandStop(f"{option} {named}: expected {what}, got {_kind(found)}", USAGE)


def _kind(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    name = type(found).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
