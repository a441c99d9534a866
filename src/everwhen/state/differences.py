"""What changed between two values: a list of changes, to look at or to apply elsewhere.

Values that are the same object are skipped at once, so comparing two states that share structure
costs what changed between them, and a glance at each entry of the mappings on the way. Values
that are equal and of one type are unchanged. A set is compared as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, repeat
from operator import is_not
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from everwhen.state.paths import (
    MISSING,
    Missing,
    PartKind,
    Path,
    key_text,
    kind_of,
    names_in,
    part_of,
    plain,
    pointer_of,
    text_of,
    value_at,
)

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import Html, TableRow


class Change(msgspec.Struct, frozen=True):
    """What became of one part: its value before and after, `MISSING` where it wasn't there."""

    path: Path
    before: Any
    after: Any

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """Whether the part came, went, or has another value."""
        if self.before is MISSING:
            return "added"
        return "removed" if self.after is MISSING else "changed"

    def __str__(self) -> str:
        before, after = _shown(self.before), _shown(self.after)
        where = text_of(self.path) or "state"
        if self.before is MISSING:
            return f"{where}: + {after}"
        return f"{where}: {before} → {after}" if after else f"{where}: - {before}"

    def _html_row_(self) -> TableRow:
        from everwhen.state.value_html import value_cell
        from everwhen.vocabulary.notebook_html import BAD, GOOD, WARNING, TableRow, element, looking

        signs = {"added": (GOOD, "+"), "removed": (BAD, "-"), "changed": (WARNING, "~")}
        sign = looking(*signs[self.kind])
        where = element("bdi", text_of(self.path) or "state")
        cells = (sign, where, value_cell(self.before), value_cell(self.after))
        return TableRow(("", "path", "before", "after"), cells)

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.vocabulary.notebook_html import card, heading

        return in_notebook(lambda: card(heading("Change", ""), changes_table([self])))


class Diff(Sequence[Change]):
    """The changes from one value to another, in the order in which they can be applied.

    Items of a sequence that come or go do so at its end, one by one, or where it was cut; nothing
    is reported for items that only moved.
    """

    def __init__(self, before: Any, after: Any) -> None:
        self._before, self._after = before, after
        self._changes = list(_changes((), before, after))

    def __len__(self) -> int:
        return len(self._changes)

    def __getitem__(self, index: Any) -> Any:
        return self._changes[index]

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self._changes))

    def __repr__(self) -> str:
        shown = "; ".join(str(change)[:80] for change in self._changes[:3])
        more = f"; … {len(self) - 3:,} more" if len(self) > 3 else ""
        return f"<Diff: {shown or 'no change'}{more}>"

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.vocabulary.notebook_html import card, counted, heading

        title = counted(len(self), "change") if self else "no change"
        return in_notebook(lambda: card(heading("Diff", title), changes_table(self)))

    def touches(self, path: Path) -> bool:
        """Whether the part at the path changed, something in it, or something that it is in."""
        return any(
            change.path[: len(path)] == path or path[: len(change.path)] == change.path
            for change in self._changes
        )

    def patch(self) -> list[dict[str, Any]]:
        """The changes as a JSON Patch (RFC 6902), for the value as `plain` gives it."""
        found: list[dict[str, Any]] = []
        replaced: set[Path] = set()
        for change in self._changes:
            path = self._as_stored(change.path)
            if path is not None:
                found.append(_operation(path, change))
                continue
            irregular = self._irregular(change.path)
            if irregular not in replaced:
                replaced.add(irregular)
                stored = self._as_stored(irregular) or ()
                before, after = (value_at(v, irregular) for v in (self._before, self._after))
                found.append(_operation(stored, Change(irregular, before, after)))
        return found

    def _as_stored(self, path: Path) -> Path | None:
        """The path in names as stored; None where it enters a record that leaves fields out."""
        found: list[Any] = []
        for key, value in zip(path, self._along(path), strict=False):
            if not _is_regular(value):
                return None
            found.append(_stored_name(value, key))
        return tuple(found)

    def _irregular(self, path: Path) -> Path:
        """The part of the path that leads to the first record that leaves fields out."""
        values = enumerate(self._along(path))
        return path[: next(i for i, value in values if not _is_regular(value))]

    def _along(self, path: Path) -> Iterator[Any]:
        """The values that the path leads through, from whichever side has them."""
        before, after = self._before, self._after
        for key in path:
            yield after if before is MISSING else before
            before, after = part_of(before, key), part_of(after, key)


def changes_table(changes: Sequence[Change]) -> Html:
    """Changes in a notebook: what came, what went, and what has another value."""
    from everwhen.vocabulary.notebook_html import rows_table

    return rows_table(changes, "change")


def diff(before: Any, after: Any) -> Diff:
    """What has to change for the one value to become the other.

    Two values of unlike types, say records of two classes, are one change. The cost is that of
    what isn't shared between them.
    """
    return Diff(before, after)


def are_alike(one: Diff, other: Diff) -> bool:
    """Whether two diffs lead to the same values at the same paths, as plain data."""
    if len(one) != len(other):
        return False
    return all(
        mine.path == theirs.path
        and (mine.after is MISSING) is (theirs.after is MISSING)
        and (
            mine.after is MISSING
            or plain(mine.after, ordered=True) == plain(theirs.after, ordered=True)
        )
        for mine, theirs in zip(one, other, strict=True)
    )


_Pair: TypeAlias = tuple[Path, Any, Any]
"""A path, and what is there on both sides, to be compared."""


def _changes(path: Path, before: Any, after: Any) -> Iterator[Change]:
    """The changes, part by part. Without recursion: a state may be nested as deep as it likes."""
    open_parts: list[Iterator[Change | _Pair]] = [iter([(path, before, after)])]
    while open_parts:
        found = next(open_parts[-1], None)
        if found is None:
            open_parts.pop()
        elif isinstance(found, Change):
            yield found
        else:
            open_parts.append(_between(*found))


def _between(path: Path, before: Any, after: Any) -> Iterator[Change | _Pair]:
    """The changes between two values, and the parts of both that are to be compared."""
    if before is after:
        return
    kind = kind_of(type(before))
    if kind is not kind_of(type(after)):
        yield Change(path, before, after)
        return
    match kind:
        case PartKind.MAPPING:
            yield from _of_mappings(path, before, after)
        case PartKind.SEQUENCE:
            yield from _of_sequences(path, before, after)
        case PartKind.RECORD | PartKind.OBJECT if type(before) is type(after):
            for name in dict.fromkeys((*names_in(before), *names_in(after))):
                parts = (getattr(value, name, MISSING) for value in (before, after))
                yield from _of_parts((*path, name), *parts)
        case _ if not _are_equal(before, after):
            yield Change(path, before, after)


def _are_equal(before: Any, after: Any) -> bool:
    if type(before) is not type(after):
        return False
    is_nan = before != before and after != after  # noqa: PLR0124
    return bool(before == after or is_nan)


def _of_parts(path: Path, before: Any, after: Any) -> Iterator[Change | _Pair]:
    if before is MISSING or after is MISSING:
        if before is not after:
            yield Change(path, before, after)
    else:
        yield path, before, after


def _of_mappings(
    path: Path, before: Mapping[Any, Any], after: Mapping[Any, Any]
) -> Iterator[Change | _Pair]:
    """The changes by key. All that sees each entry runs in C."""
    if len(before) == len(after) and list(before) == list(after):
        changed = compress(after, map(is_not, before.values(), after.values()))
    else:
        for key in before:
            if key not in after:
                yield Change((*path, key), before[key], MISSING)
        found = map(before.get, after, repeat(MISSING))
        changed = compress(after, map(is_not, found, after.values()))
    for key in changed:
        yield from _of_parts((*path, key), before.get(key, MISSING), after[key])


def _of_sequences(
    path: Path, before: Sequence[Any], after: Sequence[Any]
) -> Iterator[Change | _Pair]:
    """The changes by index, between what is the same at both ends."""
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and _is_same(before[start], after[start]):
        start += 1
    end = 0
    while end < shorter - start and _is_same(before[-1 - end], after[-1 - end]):
        end += 1
    both = shorter - start - end
    for index in range(start, start + both):
        yield (*path, index), before[index], after[index]
    start += both
    for index in reversed(range(start, len(before) - end)):
        yield Change((*path, index), before[index], MISSING)
    for index in range(start, len(after) - end):
        yield Change((*path, index), MISSING, after[index])


def _is_same(before: Any, after: Any) -> bool:
    """Whether there is no change between two values; each part is looked at once."""
    pairs = [(before, after)]
    while pairs:
        before, after = pairs.pop()
        if before is after:
            continue
        parts = _parts_of_both(before, after)
        if parts is None:
            return False
        pairs += parts
    return True


def _parts_of_both(before: Any, after: Any) -> list[tuple[Any, Any]] | None:
    """The parts of two values, side by side; None where the values differ in themselves."""
    kind = kind_of(type(before))
    if kind is not kind_of(type(after)):
        return None
    match kind:
        case PartKind.MAPPING | PartKind.SEQUENCE if len(before) != len(after):
            return None
        case PartKind.SEQUENCE:
            return list(zip(before, after, strict=True))
        case PartKind.MAPPING:
            found = [(part, after.get(key, MISSING)) for key, part in before.items()]
            return None if any(part is MISSING for _, part in found) else found
        case PartKind.RECORD | PartKind.OBJECT if type(before) is type(after):
            names = dict.fromkeys((*names_in(before), *names_in(after)))
            return [(getattr(before, n, MISSING), getattr(after, n, MISSING)) for n in names]
        case _:
            return [] if _are_equal(before, after) else None


def _is_regular(value: Any) -> bool:
    """Whether a value, as stored, has all of its parts, each under a name."""
    config = getattr(type(value), "__struct_config__", None)
    if config is None:
        return True
    return not (config.omit_defaults or config.array_like or _has_unset(value))


def _has_unset(value: Any) -> bool:
    return any(getattr(value, name, None) is msgspec.UNSET for name in value.__struct_fields__)


def _stored_name(value: Any, key: Any) -> Any:
    fields = getattr(value, "__struct_fields__", ())
    return value.__struct_encode_fields__[fields.index(key)] if key in fields else key


def _operation(path: Path, change: Change) -> dict[str, Any]:
    pointer = pointer_of(path)
    if change.before is MISSING:
        return {"op": "add", "path": pointer, "value": plain(change.after, ordered=True)}
    if change.after is MISSING:
        return {"op": "remove", "path": pointer}
    return {"op": "replace", "path": pointer, "value": plain(change.after, ordered=True)}


def _shown(value: Any, width: int = 60) -> str:
    if isinstance(value, Missing):
        return ""
    text = key_text(value) if isinstance(value, str) else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
