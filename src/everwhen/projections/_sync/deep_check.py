# Generated from src/everwhen/projections/_async/deep_check.py by tools/unasync.py: edit that, then run `make sync`.
"""A deep check: what is derived from the events is compared with what they give again.

Events are read page by page and states compared one at a time, so memory stays flat. Nothing is
written to the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

from everwhen.backends._sync.concurrency import aside
from everwhen.privacy.erasure_marks import ErasureMark
from everwhen.privacy.failure_texts import shown_failure
from everwhen.projections._sync.rebuild import (
    CheckListener,
    FailedError,
    OutdatedError,
    Rebuild,
    ReworkedError,
)
from everwhen.projections.projections import Projection, TableProjection, is_its_own
from everwhen.state.fold import Fold, documents
from everwhen.state.paths import text_of
from everwhen.state.snapshots import (
    START,
    ForeignSnapshotError,
    Loaded,
    OutdatedSnapshotError,
    opened,
    subject_of,
    unsealed,
)
from everwhen.state.state_encoding import UNFIT, differing_part
from everwhen.store._sync.repository import Repository
from everwhen.store._sync.store import Store, check_store
from everwhen.store.projection_records import Build, build_of
from everwhen.store.record_checks import build_name
from everwhen.store.retirement_records import retired_end
from everwhen.travel.waypoints import travel_subject
from everwhen.vocabulary.contract import (
    MAX_NAME_BYTES,
    CheckProgress,
    Problem,
    Snapshot,
    SnapshotInfo,
)
from everwhen.vocabulary.errors import (
    CorruptStoreError,
    DeclarationError,
    DecodeError,
    RetiredError,
    SnapshotError,
)
from everwhen.vocabulary.query import Query

_SNAPSHOTS_AT_ONCE: Final = 500  # a page of them without their states
_SEARCHED_SUBJECTS: Final = 100_000  # of queries, by digest: some 40 MB until they are found
_ATTEMPTS: Final = 3  # somebody may rebuild the same tables meanwhile, but hardly always
_LONG_NAME_BYTES: Final = MAX_NAME_BYTES // 4
"""The snapshots of a stream with a longer name may be kept under a digest of it."""
_TRAVEL: Final = "travel/"
_DELETE: Final = "delete it, by Repository.delete_snapshots"

_Key: TypeAlias = tuple[str, str, int]
"""What snapshots are of: the subject, the fold and its version."""
_Source: TypeAlias = tuple[Fold[Any], Query]


def _key(info: SnapshotInfo) -> _Key:
    return info.subject, info.fold, info.fold_version


def _subjects_of(fold: Fold[Any], of: Query) -> tuple[str, str]:
    """The names that a state's snapshots and waypoints are kept under."""
    subject = subject_of(fold, of)
    return subject, travel_subject(subject)


def _no_query(key: _Key) -> tuple[str, str]:
    return (
        f"snapshots of fold {key[1]!r}",
        "their name doesn't say of which events; give a Projection(fold, of=…) that does",
    )


def check_deep(
    store: Store,
    *,
    of: Iterable[Fold[Any] | Projection[Any] | TableProjection] = (),
    progress: CheckListener | None = None,
) -> list[Problem]:
    """What `Store.check` finds, and what differs from what the events give again.

    What is derived from the events is computed anew and compared: every snapshot with a replay,
    and each row of a table projection with a rebuild, made in a temporary database. Each event is
    read as the class that is declared for it. That takes the code: ``of`` are folds and
    projections; a `Projection` also says of which events its fold's snapshots are. What can't be
    compared is in the list, as a `Problem` that ``is_fault`` is False of. ``progress`` hears how
    it comes along; what it raises ends the check. Nothing is written.

    Raises `DeclarationError` for anything else in ``of``, before anything is read.
    """
    run = _DeepCheck(check_store(store), of, progress)
    problems = store.check()
    try:
        return problems + run.problems(problems)
    except CorruptStoreError as error:
        unreadable = Problem("store", str(error))
        return problems if unreadable in problems else [*problems, unreadable]


_RETIRED: Final = "events that it is made of were retired"


class _DeepCheck:
    """One run over a store, with the folds and projections whose code is at hand."""

    def __init__(
        self,
        store: Store,
        of: Iterable[Fold[Any] | Projection[Any] | TableProjection],
        progress: CheckListener | None,
    ) -> None:
        self._store = store
        self._progress: CheckListener = progress or (lambda _: None)
        self._folds = {(documents.name, documents.version): documents}
        self._tables: dict[str, TableProjection] = {}
        self._sources: dict[_Key, _Source] = {}
        self._left_out: Counter[tuple[str, str]] = Counter()
        for one in of:
            self._add(one)

    def _add(self, one: Fold[Any] | Projection[Any] | TableProjection) -> None:
        if isinstance(one, TableProjection):
            self._tables[one.name] = one
            return
        fold = one.fold if isinstance(one, Projection) else one
        if not isinstance(fold, Fold):
            raise DeclarationError(
                f"check_deep(of=…): give Folds, Projections and TableProjections, not {one!r:.80}"
            )
        self._folds[fold.name, fold.version] = fold
        if isinstance(one, Projection):
            for subject in _subjects_of(fold, one.of):
                self._sources[subject, fold.name, fold.version] = fold, one.of

    def problems(self, known: Sequence[Problem]) -> list[Problem]:
        """What is found beyond what is known, and what could not be compared."""
        found = self._contents({problem.where for problem in known})
        found += self._snapshots()
        found += self._read_models()
        return found + [
            Problem(where, f"not compared: {why}" + (f" ({count:,})" if count > 1 else ""), False)
            for (where, why), count in sorted(self._left_out.items())
        ]

    def _leave_out(self, where: str, why: str, count: int = 1) -> None:
        self._left_out[where, why] += count

    def _lacking(self, classes: Iterable[type[Any]]) -> str | None:
        """Which of these event classes the store was opened without, in words."""
        known = self._store.event_types.current()
        names = sorted(cls.__name__ for cls in classes if cls not in known)
        return f"the store was opened without the event types {', '.join(names)}" if names else None

    # What is in the events

    def _contents(self, known: set[str]) -> list[Problem]:
        """Events that don't fit the classes declared for them, or can't be opened."""
        if not self._store.event_types.current():
            return []
        found: list[Problem] = []
        newest = (self._store.head()).position
        for events in self._store.read_pages(Query().up_to(newest).skipping_retired()):
            for event in events:
                where = f"position {event.position}"
                try:
                    _ = event.event
                except DecodeError as error:
                    if where not in known:
                        found.append(Problem(where, shown_failure(error, self._store.vault)))
            self._progress(CheckProgress("events", events[-1].position, newest))
        return found

    # Snapshots

    def _snapshots(self) -> list[Problem]:
        found: list[Problem] = []
        searched: dict[_Key, list[SnapshotInfo]] = {}
        newest, count = (self._store.head()).position, 0
        at = "", -1
        while True:
            page = self._store.kernel.backend.snapshots_after(*at, _SNAPSHOTS_AT_ONCE)
            if not page:
                return found + self._searched(searched)
            at = page[-1].subject, page[-1].position
            possible = [info for info in page if 0 < info.position <= newest]
            for key, infos in groupby(sorted(possible, key=_key), _key):
                these = list(infos)
                source = self._source(key)
                if source is not None:
                    found += self._compared(*source, these)
                elif key[1:] not in self._folds:
                    self._leave_out(*self._no_fold(key), len(these))
                elif len(searched) < _SEARCHED_SUBJECTS:
                    searched.setdefault(key, []).extend(these)
                else:
                    self._leave_out(*_no_query(key), len(these))
            count += len(page)
            self._progress(CheckProgress("snapshots", count, None))

    def _source(self, key: _Key) -> _Source | None:
        """The fold and the events that snapshots are of, where their name says it.

        It says it for all events and for one stream's, and for what a given projection follows.
        """
        subject, name, version = key
        fold = self._folds.get((name, version))
        if fold is None or key in self._sources:
            return self._sources.get(key)
        for plain in (subject, subject.removeprefix(_TRAVEL)):
            stream = plain.removeprefix(f"{name}/")
            of = Query() if plain == name else Query().stream(stream) if stream != plain else None
            if of is not None and subject in _subjects_of(fold, of):
                return fold, of
        return None

    def _searched(self, searched: dict[_Key, list[SnapshotInfo]]) -> list[Problem]:
        """Those whose name is a digest: of a category, or of a stream with a long name."""
        found: list[Problem] = []
        seen = ""
        if not searched:
            return found
        for info in self._store.streams():
            queries = [] if info.category == seen else [Query().category(info.category)]
            seen = info.category
            if len(info.name.encode()) > _LONG_NAME_BYTES:
                queries.append(Query().stream(info.name))
            for fold in self._folds.values() if queries else ():
                for of in queries:
                    for subject in _subjects_of(fold, of):
                        these = searched.pop((subject, fold.name, fold.version), None)
                        found += self._compared(fold, of, these) if these else []
        for key, these in searched.items():
            self._leave_out(*_no_query(key), len(these))
        return found

    def _no_fold(self, key: _Key) -> tuple[str, str]:
        _, fold, version = key
        given = sorted(known for name, known in self._folds if name == fold)
        why = "that fold was not given"
        if given:
            why = f"they are of its version {version}, and version {given[0]} was given"
        return f"snapshots of fold {fold!r}", why

    def _compared(self, fold: Fold[Any], of: Query, infos: Sequence[SnapshotInfo]) -> list[Problem]:
        """One subject's snapshots, in the order of positions, with one replay."""
        found: list[Problem] = []
        repository = Repository(self._store, fold)
        mark = ErasureMark.now(self._store.vault)
        loaded = Loaded.at(START, fold.initial(), None, mark)
        for count, info in enumerate(infos):
            where = f"snapshot {info.subject!r} at position {info.position}"
            try:
                loaded = repository.replayed(of.up_to(info.position), loaded)
            except RetiredError:
                self._leave_out(f"snapshots of fold {fold.name!r}", _RETIRED, len(infos) - count)
                return found
            except Exception as error:
                if not is_its_own(error):
                    raise
                why = shown_failure(error, self._store.vault)
                return [*found, Problem(where, f"a replay fails, so it can't be compared: {why}")]
            stored = self._store.snapshots(info.subject, up_to=info.position, limit=1)
            if stored and stored[0].position == info.position:
                what = self._judged(fold, stored[0], loaded)
                found += [] if what is None else [Problem(where, what)]
        return found

    def _judged(self, fold: Fold[Any], stored: Snapshot, loaded: Loaded[Any]) -> str | None:
        """What is wrong with a snapshot, whether it is believed or not; None for nothing."""
        doubt: SnapshotError | None = None
        try:
            stored = self._store.kernel.decrypted(stored)
            keys = self._store.kernel.snapshot_keys.known()
            opened(fold, stored, self._store.event_types.current(), keys)
        except ForeignSnapshotError:
            pass  # whoever took it believes it
        except OutdatedSnapshotError as error:
            self._leave_out(f"snapshots of fold {fold.name!r}", f"{error}; they aren't used")
            return None
        except SnapshotError as error:
            doubt = error
        lacking = self._lacking(fold.event_classes)
        if doubt is not None and lacking:
            self._leave_out(f"snapshots of fold {fold.name!r}", lacking)
            return None
        try:
            state, place = unsealed(fold, stored)
        except SnapshotError as error:
            return f"{shown_failure(doubt or error, self._store.vault)}; {_DELETE}"
        if place != loaded.place:
            return f"the event that it ends with isn't the one at its position; {_DELETE}"
        try:
            part = differing_part(loaded.state, state)
        except UNFIT as error:
            return f"it can't be compared: {shown_failure(error, self._store.vault)}; {_DELETE}"
        if part is not None:
            at = f" at {text_of(part)}" if part and self._store.vault is None else ""
            return (
                f"it isn't the state that a replay of its events gives{at}: it was altered, or the "
                f"fold's functions do something else now under the same version; {_DELETE}"
            )
        return None if doubt is None else f"{shown_failure(doubt, self._store.vault)}; {_DELETE}"

    # Read models

    def _read_models(self) -> list[Problem]:
        found: list[Problem] = []
        unseen = set(self._tables)
        for known in self._store.checkpoints():
            build = build_of(known)
            if build is None or build.kind == "reaction":
                continue
            unseen.discard(build.projection)
            where, projection = build_name(build), self._tables.get(build.projection)
            if projection is None:
                self._leave_out(where, "its code was not given")
            elif projection.version != build.version:
                self._leave_out(where, f"the code given is of version {projection.version}")
            elif lacking := self._lacking(projection.event_classes):
                self._leave_out(where, lacking)
            else:
                found += self._rebuilt(projection, build)
        for name in unseen:
            self._leave_out(f"projection {name!r}", "nothing is kept of it here")
        return found

    def _rebuilt(self, projection: TableProjection, build: Build) -> list[Problem]:
        where = build_name(build)
        backend = self._store.kernel.backend
        retired = backend.view(lambda view: retired_end(view.read))
        if retired and projection.of.skips_retired:
            self._leave_out(where, _RETIRED)  # or not: it may have taken them before
            return []
        for _ in range(_ATTEMPTS):
            rebuild = Rebuild(self._store, projection, build, self._progress)
            try:
                return rebuild.problems()
            except ReworkedError:
                continue
            except RetiredError:
                self._leave_out(where, _RETIRED)
                return []
            except FailedError as failed:
                why = shown_failure(failed.__cause__, self._store.vault)
                what = f"its functions fail at position {failed.position}, so its rows can't be"
                return [Problem(where, f"{what} compared: {why}")]
            except OutdatedError:
                why = "somebody was forgotten since it was built; let its runner build it anew"
                self._leave_out(where, why)
                return []
            finally:
                aside(rebuild.close)
        self._leave_out(where, "it is being worked on; check again when it rests")
        return []
