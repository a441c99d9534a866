"""``all`` and ``exists``, asked of many states in a row: only of what has changed since the last.

A search through history asks a condition after every event, and an event changes few of the things
that a macro goes through. Where the answer for each depends on that item alone, the answers of
those that are still the same objects are still right. The steps that are counted are those of
going through all of them, so that the same state takes the same number, whatever came before.
"""

from __future__ import annotations

from itertools import compress
from operator import is_not
from typing import Any, cast

from everwhen.expressions.cel.closures import Closure, truth
from everwhen.expressions.cel.faults import CelFault, Exhausted, Run
from everwhen.expressions.cel.tree import (
    Call,
    Constant,
    Entries,
    ListItems,
    Macro,
    Name,
    Select,
    SyntaxNode,
)
from everwhen.state.fold import is_immutable


class _Answers:
    """The answer for each item, and how many steps it took."""

    __slots__ = ("costs", "decided", "faults", "items", "keys", "said")

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.items: list[Any] = []
        self.said: list[bool | CelFault] = []
        self.costs: list[int] = []
        self.decided = self.faults = 0

    def grow(self, keys: list[Any], items: list[Any], *, otherwise: bool) -> None:
        """Take in the items of now, of which those that are new have yet to be asked of."""
        more = len(items) - len(self.items)
        self.keys, self.items = keys, items
        self.said += [otherwise] * more
        self.costs += [0] * more


def rests_on_items(macro: Macro) -> bool | None:
    """Whether the answer for each item of a macro depends on it alone; None if only on a map's.

    That is on the macro's own names, and on the range under a map's key: ``m[k]`` in
    ``m.exists(k, m[k] > 0)``.
    """
    way = _way(macro.range)
    own = frozenset(macro.variables)
    if way is None or way[0] in own or macro.where is not None:
        return False
    if _rests_on(macro.body, own, None, ()):
        return True
    return None if _rests_on(macro.body, own, macro.variables[0], way) else False


def _way(node: SyntaxNode) -> tuple[str, ...] | None:
    match node:
        case Name(name=name):
            return (name,)
        case Select(operand=operand, field=field, test=False):
            way = _way(operand)
            return None if way is None else (*way, field)
        case _:
            return None


def _rests_on(node: SyntaxNode, own: frozenset[str], key: str | None, way: tuple[str, ...]) -> bool:
    match node:
        case Constant():
            return True
        case Name(name=name):
            return name in own
        case Select(operand=operand):
            return _rests_on(operand, own, key, way)
        case Call(target=None, function="_[_]", args=[items, Name(name=name)]) if (
            name == key and _way(items) == way
        ):
            return True
        case Call(target=target, args=args):
            parts = args if target is None else [target, *args]
        case ListItems(items=parts):
            pass
        case Entries(entries=entries):
            parts = [part for entry in entries for part in entry]
        case Macro(variables=names, range=items, where=where, body=body):
            if not _rests_on(items, own, key, way):
                return False
            is_hidden = key in names or way[:1] in [(name,) for name in names]
            own, key = own | set(names), None if is_hidden else key
            parts = [body] if where is None else [where, body]
    return all(_rests_on(part, own, key, way) for part in parts)


class Repeated:
    """A macro that remembers, where the run says that it may, its answer for each item."""

    def __init__(
        self,
        macro: Macro,
        plain: Closure,
        items: Closure,
        body: Closure,
        price: int,
        slots: list[int],
        *,
        only_maps: bool,
    ) -> None:
        self._plain, self._items, self._body = plain, items, body
        self._at, self._price, self._slots = macro.at, price, slots
        self._decisive = macro.kind == "exists"
        self._only_maps = only_maps

    def __call__(self, run: Run) -> bool:
        """Whether it holds, with the steps that `plain` takes."""
        if run.answers is None:
            return bool(self._plain(run))
        left = run.steps
        try:
            answers = self._up_to_date(run, self._items(run))
            if answers is not None:
                return self._answer(answers, run)
        except Exhausted:
            run.answers[self] = None
            run.steps = left
        return bool(self._plain(run))

    def _answer(self, answers: _Answers, run: Run) -> bool:
        if answers.decided:
            run.spend(sum(answers.costs[: answers.said.index(self._decisive) + 1]))
            return self._decisive
        run.spend(sum(answers.costs))
        if answers.faults:
            raise next(said for said in answers.said if isinstance(said, CelFault))
        return not self._decisive

    def _up_to_date(self, run: Run, value: Any) -> _Answers | None:
        """The answer for each item now; None where that has to be asked anew each time."""
        is_map = value.__class__ is dict
        known: _Answers | None = cast("Any", run.answers).setdefault(self, _Answers())
        if known is None or not (is_map or (type(value) in (list, tuple) and not self._only_maps)):
            return None
        items = list(value.values()) if is_map else list(value)
        keys = list(value) if is_map else list(range(len(items)))
        if len(known.keys) > len(keys) or (is_map and any(map(is_not, known.keys, keys))):
            known = cast("Any", run.answers)[self] = _Answers()
        before = len(known.items)
        changed = [*compress(range(before), map(is_not, known.items, items))]
        changed += range(before, len(items))
        if not all(is_immutable(items[index]) for index in changed):
            cast("Any", run.answers)[self] = None  # what changes in place doesn't show
            return None
        known.grow(keys, items, otherwise=not self._decisive)
        for index in changed:
            self._ask(known, run, index, is_map=is_map)
        return known

    def _ask(self, answers: _Answers, run: Run, index: int, *, is_map: bool) -> None:
        key, item = answers.keys[index], answers.items[index]
        first, *others = self._slots
        run.local[first] = key if is_map or others else item
        if others:
            run.local[others[0]] = item
        before, left = answers.said[index], run.steps
        said: bool | CelFault
        try:
            said = truth(self._body(run), self._at)
        except CelFault as fault:
            said = fault.with_traceback(None)
        answers.decided += (said is self._decisive) - (before is self._decisive)
        answers.faults += isinstance(said, CelFault) - isinstance(before, CelFault)
        answers.said[index], answers.costs[index] = said, left - run.steps + self._price
        run.steps = left
