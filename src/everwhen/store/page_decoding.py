"""From a backend's page to recorded events, and on to the next page.

Most of the cost of decoding is in the calls, not in the bytes: the bodies of many slices are
joined and decoded in one call.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec

from everwhen.backends.query_matching import Alternatives, Matcher, alternatives_of
from everwhen.codec.blocks import Block
from everwhen.codec.codec import Codec
from everwhen.codec.event_types import DeclaredType
from everwhen.codec.recorded_events import (
    RecordedEvent,
    cannot_be_upcast,
    entries_of,
    event_id,
    events_of_block,
    place_in_words,
    recorded_events,
    stored_slice,
)
from everwhen.codec.slice_bodies import Entry, decode_bodies, is_body_deeper
from everwhen.state.fold import Fold
from everwhen.state.snapshots import START, Loaded, Place, ReplayCost
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.errors import DecodeError
from everwhen.vocabulary.query import Query

S = TypeVar("S")

_SLICES_AT_ONCE: Final = 100
"""How many bodies are joined for one call: more would gain little, and hold more memory."""


def events_of_page(
    page: Page, asked: Query, wanted: Query, codec: Codec, *, typed: bool = False
) -> list[RecordedEvent[Any]]:
    """The page's matching events in the query's direction.

    ``asked`` is the query in terms of stored types, ``wanted`` in terms of current ones.
    ``typed`` decodes the typed events along with their envelopes, for folds that need them all.
    """
    found: list[RecordedEvent[Any]] = []
    matcher = Matcher(asked)
    upcasting = codec.types.has_upcasts
    whole = not upcasting and matcher.takes_whole(page.slices)
    if whole and isinstance(page.slices, Block) and not asked.reverse:
        flat = _block_decoded(page.slices, codec, typed=typed)
        if flat is not None:
            return events_of_block(page.slices, flat, codec)
    for start in range(0, len(page.slices), _SLICES_AT_ONCE):
        slices = page.slices[start : start + _SLICES_AT_ONCE]
        decoded = _decoded(slices, codec, typed=typed)
        for stored, entries in zip(slices, decoded, strict=True):
            if whole and stored.count == 1:
                entry = entries[0]
                found.append(
                    RecordedEvent(
                        stored.position, stored.version, entry.type, entry, stored, 0, codec
                    )
                )
                continue
            indexes = None if whole else matcher.picked(stored, entries)
            events = recorded_events(stored, entries, indexes, codec)
            if asked.reverse:
                events.reverse()
            found += events
    if upcasting and any(selector.types for selector in wanted.selectors):
        alternatives = alternatives_of(wanted.selectors)
        return [event for event in found if _still_wanted(event, alternatives, wanted)]
    return found


def folded_page(
    page: Page, asked: Query, wanted: Query, codec: Codec, fold: Fold[S], state: S
) -> tuple[S, int]:
    """The state after the page's matching events, and how many they were.

    The state given may be changed in place. Where the fold needs nothing but typed events,
    nothing else is made of them.
    """
    if fold.needs_records or codec.types.has_upcasts or asked.reverse:
        found = events_of_page(page, asked, wanted, codec, typed=fold.needs_types)
        return fold.advance(state, found), len(found)
    matcher = Matcher(asked)
    flat = _typed_block(page.slices, matcher, codec)
    if flat is not None:
        where = partial(_where_in, page.slices, flat)
        return fold.advance_typed(state, flat, where), len(flat)
    count = 0
    for start in range(0, len(page.slices), _SLICES_AT_ONCE):
        slices = page.slices[start : start + _SLICES_AT_ONCE]
        decoded = _decoded(slices, codec, typed=True)
        if type(decoded[0][0]) is Entry or not matcher.takes_whole(slices):
            part = Page(slices, page.cursor, page.end)
            found = events_of_page(part, asked, wanted, codec, typed=True)
            state = fold.advance(state, found)
            count += len(found)
        else:
            typed = [entry.data for entries in decoded for entry in entries]
            state = fold.advance_typed(state, typed, partial(_where_in, slices, typed))
            count += len(typed)
    return state, count


def fold_page_in_groups(
    page: Page,
    asked: Query,
    wanted: Query,
    codec: Codec,
    fold: Fold[S],
    states: dict[str, S],
    group_of: Mapping[str, str] | None,
) -> None:
    """Give the page's matching events to the states of their groups; changes ``states``.

    ``group_of`` has the group of each stream; None where each stream is one.
    """
    if fold.needs_records or codec.types.has_upcasts or asked.reverse:
        found = events_of_page(page, asked, wanted, codec, typed=fold.needs_types)
        fold_in_groups(found, fold, states, group_of)
        return
    matcher = Matcher(asked)
    slices = page.slices
    flat = _typed_block(slices, matcher, codec)
    if flat is not None and isinstance(slices, Block):
        streams = slices.event_streams
        groups = streams if group_of is None else [group_of[stream] for stream in streams]
        fold.advance_groups(states, groups, flat, partial(_where_in, slices, flat))
        return
    for start in range(0, len(slices), _SLICES_AT_ONCE):
        some = slices[start : start + _SLICES_AT_ONCE]
        decoded = _decoded(some, codec, typed=True)
        if type(decoded[0][0]) is Entry or not matcher.takes_whole(some):
            part = Page(some, page.cursor, page.end)
            found = events_of_page(part, asked, wanted, codec, typed=True)
            fold_in_groups(found, fold, states, group_of)
        else:
            typed = [entry.data for entries in decoded for entry in entries]
            streams = [stored.stream for stored in some for _ in range(stored.count)]
            groups = streams if group_of is None else [group_of[stream] for stream in streams]
            fold.advance_groups(states, groups, typed, partial(_where_in, some, typed))


def fold_in_groups(
    events: Sequence[RecordedEvent[Any]],
    fold: Fold[S],
    states: dict[str, S],
    group_of: Mapping[str, str] | None,
) -> None:
    """The same with recorded events, in the order in which they are folded."""
    streams = [event.stream for event in events]
    groups = streams if group_of is None else [group_of[stream] for stream in streams]
    fold.advance_groups(states, groups, events, place_in_words)


def _where_in(slices: Sequence[StoredSlice], events: Sequence[Any], event: Any) -> str:
    """Where one of the slices' events stands, in words."""
    index = next(i for i, one in enumerate(events) if one is event)
    return _in_words(*_event_in(slices, list(accumulate(s.count for s in slices)), index))


def _in_words(stored: StoredSlice, later: int) -> str:
    return f"position {stored.position - later}, {stored.stream}@{stored.version - later}"


class Places:
    """Where a page's events stand, by their index; called, it gives the `Place`."""

    def __init__(self, found: Callable[[int], tuple[StoredSlice, int]]) -> None:
        self._found = found

    def __call__(self, index: int) -> Place:
        """The event's place."""
        stored, later = self._found(index)
        return Place(
            stored.position - later, stored.version - later, stored.recorded_at, stored.commit_id
        )

    def words(self, first: int) -> Callable[[int], str]:
        """The same in words, for the events from an index on."""
        return lambda index: _in_words(*self._found(first + index))


def foldable_page(
    page: Page, asked: Query, wanted: Query, codec: Codec, fold: Fold[Any]
) -> tuple[list[Any], Places]:
    """The page's matching events as `Fold.advance_until` takes them, and where each stands."""
    plain = not (fold.needs_records or codec.types.has_upcasts)
    matcher = Matcher(asked)
    if plain and page.slices and matcher.takes_whole(page.slices):
        flat = _typed_block(page.slices, matcher, codec)
        if flat is not None:
            ends = list(accumulate(stored.count for stored in page.slices))
            return flat, Places(partial(_event_in, page.slices, ends))
        typed: list[Any] = []
        for start in range(0, len(page.slices), _SLICES_AT_ONCE):
            decoded = _decoded(page.slices[start : start + _SLICES_AT_ONCE], codec, typed=True)
            if type(decoded[0][0]) is Entry:
                break
            typed += [entry.data for entries in decoded for entry in entries]
        else:
            ends = list(accumulate(stored.count for stored in page.slices))
            return typed, Places(partial(_event_in, page.slices, ends))
    events = events_of_page(page, asked, wanted, codec, typed=fold.needs_types)
    if not codec.types.has_upcasts:
        return events, Places(lambda index: _slice_of(events[index]))
    groups = list(by_position(events))
    return groups, Places(lambda index: _slice_of(groups[index][0]))


def _event_in(
    slices: Sequence[StoredSlice], ends: list[int], index: int
) -> tuple[StoredSlice, int]:
    """The slice of the event at ``index``, and how many events follow it in the slice."""
    at = bisect_right(ends, index)
    return slices[at], ends[at] - 1 - index


def _slice_of(event: RecordedEvent[Any]) -> tuple[StoredSlice, int]:
    return stored_slice(event), stored_slice(event).position - event.position


def place_of_event(event: RecordedEvent[Any]) -> Place:
    """Where an event stands."""
    stored = stored_slice(event)
    return Place(event.position, event.version, stored.recorded_at, stored.commit_id)


def with_page(
    loaded: Loaded[S], page: Page, asked: Query, wanted: Query, codec: Codec, fold: Fold[S]
) -> Loaded[S]:
    """A loaded state, and the page's matching events folded in.

    The state that was loaded may be changed in place.
    """
    began = time.perf_counter()
    state, count = folded_page(page, asked, wanted, codec, fold, loaded.state)
    bound = page.cursor if asked.last_position is None else asked.last_position
    until = max(loaded.read_until, min(page.cursor, bound))
    if not count:
        return msgspec.structs.replace(loaded, state=state, read_until=until)
    before, since = loaded.place, loaded.since
    place = last_match(page, asked) or before
    first = page.slices[0].recorded_at if before is START else before.recorded_at
    gathered = ReplayCost(
        since.events + count,
        since.seconds + time.perf_counter() - began,
        since.age + timedelta(microseconds=place.recorded_at - first),
    )
    subject, mark = loaded.subject, loaded.mark
    return Loaded(state, place.version, place.position, until, gathered, place, subject, mark)


def by_position(events: Iterable[RecordedEvent[Any]]) -> Iterator[list[RecordedEvent[Any]]]:
    """The events that an upcast made of one, together."""
    for _, these in groupby(events, key=attrgetter("position")):
        yield list(these)


def last_match(page: Page, asked: Query) -> Place | None:
    """The place of the page's last matching event; None if none matches."""
    matcher = Matcher(asked)
    for stored in reversed(page.slices):
        picked = matcher.picked(stored, entries_of(stored))
        if picked is None or picked:
            following = (
                stored.count - 1 - (stored.count - 1 if picked is None else list(picked)[-1])
            )
            return Place(
                stored.position - following,
                stored.version - following,
                stored.recorded_at,
                stored.commit_id,
            )
    return None


def _decoded(slices: Sequence[StoredSlice], codec: Codec, *, typed: bool) -> list[list[Entry]]:
    """The slices' entries, typed where asked for and possible. Raises `CorruptStoreError`."""
    if typed and codec.can_be_deep and any(is_body_deeper(stored.body) for stored in slices):
        typed = False  # using the event raises
    typed_bodies = codec.typed_bodies if typed else None
    decode = decode_bodies if typed_bodies is None else typed_bodies.decode
    try:
        decoded = decode(b"[%b]" % b",".join([stored.body for stored in slices]))
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError):
        if typed:  # an unknown type, an old version, or data that doesn't fit: decode when touched
            return _decoded(slices, codec, typed=False)
        return [entries_of(stored) for stored in slices]
    if [len(entries) for entries in decoded] != [stored.count for stored in slices]:
        return [entries_of(stored) for stored in slices]
    if typed_bodies is not None and typed_bodies.stepped:
        try:
            _undo_steps(slices, decoded, codec, typed_bodies.stepped)
        except DecodeError:  # using the event raises
            return _decoded(slices, codec, typed=False)
    return decoded


def _block_decoded(block: Block, codec: Codec, *, typed: bool) -> list[Any] | None:
    """The entries of all of a block's slices; None where each body has to be looked at by itself.

    That is so where steps have to be undone, and where something is damaged.
    """
    bodies = b"[[%b]]" % block.entries
    if typed and codec.can_be_deep and is_body_deeper(bodies[1:-1]):
        typed = False
    elif typed and codec.typed_bodies.stepped:
        return None
    try:
        (entries,) = codec.typed_bodies.decode(bodies) if typed else decode_bodies(bodies)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError):
        return _block_decoded(block, codec, typed=False) if typed else None
    return entries if len(entries) == block.events else None


def _typed_block(slices: Sequence[StoredSlice], matcher: Matcher, codec: Codec) -> list[Any] | None:
    """The typed events of a block that matches as a whole; None for anything else."""
    if not isinstance(slices, Block) or not matcher.takes_whole(slices):
        return None
    entries = _block_decoded(slices, codec, typed=True)
    if not entries or type(entries[0]) is Entry:
        return None
    return [entry.data for entry in entries]


def _undo_steps(
    slices: Sequence[StoredSlice],
    decoded: list[list[Any]],
    codec: Codec,
    stepped: Mapping[type[Any], DeclaredType],
) -> None:
    """Put typed events in the place of what the steps made of them. Raises `DecodeError`."""
    found = [
        (entry, event_id(stored, entry, index))
        for stored, entries in zip(slices, decoded, strict=True)
        for index, entry in enumerate(entries)
        if type(entry) in stepped
    ]
    for (entry, _), data in zip(found, codec.decode_batch(found), strict=True):
        declared = stepped[type(entry)]
        event = codec.types.typed(declared.name, declared.version, data)
        msgspec.structs.force_setattr(entry, "data", event)


def _still_wanted(event: RecordedEvent[Any], alternatives: Alternatives, wanted: Query) -> bool:
    """Whether an event, once upcast, is of a type that was asked for, or may be."""
    if alternatives.match(event.stream, event.type, event.tags):
        return True
    return cannot_be_upcast(event) and wanted.selects(event.stream, None, event.tags)
