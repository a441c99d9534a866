# Generated from src/everwhen/_async/merklelog.py by tools/unasync.py: edit that, then run `make sync`.
"""The Merkle log of a store: it follows the store, seals what is new, proves and verifies."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TypeVar

import msgspec

from everwhen._sync.seam import Background, Calls, Lock, wait_for_news
from everwhen._sync.store import Store, check_store
from everwhen.contract import to_micros
from everwhen.engine import EngineView
from everwhen.errors import EverwhenError, MerkleLogError, StorageError, TamperedError
from everwhen.growing import Cosigner, Read, Sealer, Signed, newest, signed
from everwhen.news import News
from everwhen.proving import consistency, inclusion
from everwhen.tilestores import KEY, ROLLOVERS, TileFolder, TileStore
from everwhen.timestamps import Timestamp, TimestampAuthority, check, stamp
from everwhen.verification import LogReport, Verification
from everwhen_verify.errors import VerifyError
from everwhen_verify.notes import Kind, Note, Signer, Verifier, open_note, parse_note
from everwhen_verify.proofs import Proof
from everwhen_verify.rollover import key_at, open_rollovers, sign_rollover

T = TypeVar("T")


class MerkleLog:
    """Every commit of a store, or of a branch, as a leaf of a signed Merkle tree.

    ``tiles`` is where the log lies: a folder's path, or `MemoryTiles`. With a ``signer`` it can
    seal; without one it proves and verifies. ``key`` is the log's first key as the caller knows
    it, else what the folder says. The log's name is that of its keys.

    As a context manager it seals in the background: within ``max_delay``, what `append` has
    acknowledged is under a signed checkpoint. It never holds an append up.
    """

    def __init__(
        self,
        store: Store,
        tiles: TileStore | str | os.PathLike[str],
        signer: Signer | None = None,
        *,
        key: Verifier | str | None = None,
        max_delay: timedelta = timedelta(seconds=1),
        witnesses: Sequence[Cosigner] = (),
    ) -> None:
        self._store = check_store(store)
        self.tiles = TileFolder(tiles) if isinstance(tiles, str | os.PathLike) else tiles
        self._signer = signer
        self._key = Verifier.parse(key) if isinstance(key, str) else key
        self._max_delay = max_delay
        self._witnesses = witnesses
        self._calls = Calls(self.tiles)
        self._one_sealing = Lock()
        self._sealer = Sealer(self.tiles)
        self._news = News()
        self._is_over = False
        self._sealing: Background | None = None
        self.failure: Exception | None = None
        """What the background sealing failed with last; None once it works again."""

    # Sealing

    def seal(self) -> Signed:
        """Take in all that the store has, and sign it; returns the newest checkpoint.

        Raises `TamperedError` where the store isn't what was signed before, and `MerkleLogError`
        without a signer, or with another one than the log's.
        """
        signer = self._signer
        if signer is None:
            raise MerkleLogError("nothing can be sealed without a key; give a signer")
        with self._locked():
            return self._seal(signer)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else seals meanwhile, here or in another process."""
        with self._one_sealing:
            lock = self.tiles.lock()
            try:
                self._calls.finish(lock.__enter__)
                yield
            except BaseException as error:
                self._calls.finish(lock.__exit__, type(error), error, error.__traceback__)
                raise
            self._calls.finish(lock.__exit__, None, None, None)

    def _seal(self, signer: Signer) -> Signed:
        at = self._look(self._sealer.resume)
        origin = self._origin_of(at)
        self._calls.finish(self._check_signer, signer, at, origin)
        while self._look(self._sealer.take_in):
            pass
        checkpoint = self._calls.finish(self._sealer.unsigned, origin)
        if checkpoint is None:
            return self._calls.finish(self._sealer.signed_before)
        note = Note(checkpoint.text, (signer.sign(checkpoint.text),))
        note = self._witnessed(note)
        return self._calls.finish(self._sealer.publish, note.encode())

    def _witnessed(self, note: Note) -> Note:
        def proof(old: int, new: int) -> list[bytes]:
            return consistency(self.tiles, old, new)

        for witness in self._witnesses:
            try:
                more = self._calls.finish(witness.cosign, note.encode(), proof)
            except EverwhenError as error:  # the policy says whether it can be done without
                self.failure = error
            else:
                note = note.with_signatures(more)
        return note

    def _origin_of(self, at: Signed | None) -> str:
        if at is not None:
            return at.checkpoint.origin
        return "" if self._signer is None else self._signer.name

    def _check_signer(self, signer: Signer, at: Signed | None, origin: str) -> None:
        """Raises `MerkleLogError` unless the signer is the one whose turn it is."""
        known = self.tiles.read(KEY)
        if known is None and at is None:
            self.tiles.replace(KEY, signer.verifier.vkey.encode() + b"\n")
            return
        keys = self._verifiers(origin)
        if signer.verifier != keys[-1]:
            raise MerkleLogError(
                f"the log is signed by {keys[-1].vkey}, not by {signer.verifier.vkey}; give that "
                f"key, or hand the log over with roll_over"
            )
        if at is not None:
            try:
                open_note(at.note, keys)
            except VerifyError as error:
                raise TamperedError(
                    f"the newest checkpoint is not the log's own ({error})"
                ) from error

    def roll_over(self, new: Signer) -> Signed:
        """Hand the log over to a new key, which seals from now on; both keys sign that.

        Everything is sealed with the old key before. The new one has the log's name, and was none
        of its keys before: else `MerkleLogError` is raised, and nothing is written. Raises what
        `seal` raises.
        """
        old = self._signer
        if old is None:
            raise MerkleLogError("a log is handed over by its key; give a signer")
        with self._locked():
            origin = self._origin_of(self._look(self._sealer.resume))
            self._calls.finish(self._check_successor, new.verifier, origin)
            at = self._seal(old)
            now = to_micros(self._store.clock()) // 1_000_000
            note = sign_rollover(origin, old, new, at.checkpoint.size, now)
            known = self.tiles.read(ROLLOVERS) or b""
            self._calls.finish(self.tiles.write_at, ROLLOVERS, len(known), note)
        self._signer = new
        return at

    def _check_successor(self, new: Verifier, origin: str) -> None:
        """Raises `MerkleLogError` for a key that the log can't be handed over to."""
        if new.name != origin or new.kind is not Kind.ED25519:
            raise MerkleLogError(
                f"{new.vkey} is no key of the log {origin!r}; make one under that name"
            )
        if any(new.public_key == key.public_key for key in self._verifiers(origin)):
            raise MerkleLogError(
                f"{new.vkey} is, or was, the log's key already; hand it over to a fresh one"
            )

    # In the background

    def __enter__(self) -> MerkleLog:
        self.seal()
        self._is_over = False
        self._sealing = Background(self._seal_on)
        return self

    def __exit__(self, *failure: object) -> None:
        self._is_over = True
        self._news.publish()
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None
        self.seal()

    def _seal_on(self) -> None:
        pause = self._max_delay.total_seconds() / 2
        while True:
            seen = self._news.count
            if self._is_over:
                return
            began = time.monotonic()
            try:
                self.failure = None
                self.seal()
            except (MerkleLogError, StorageError) as error:
                self.failure = error
                if isinstance(error, TamperedError):
                    return
            left = pause - (time.monotonic() - began)
            wait_for_news(self._news, seen, max(left, pause / 10))

    # Asking

    def checkpoint(self) -> Signed | None:
        """The newest checkpoint; None where nothing has been sealed."""
        return self._calls.run(newest, self.tiles)

    def timestamp(self, authority: TimestampAuthority) -> Timestamp:
        """Have the newest checkpoint timestamped, and keep that in the log's folder.

        One that has a timestamp keeps it. Raises `TimestampError` where the authority gives none,
        and `MerkleLogError` where nothing is sealed yet.
        """
        return self._calls.finish(stamp, self.tiles, authority)

    def prove(self, position: int) -> Proof:
        """The proof that the commit of this position is in the log, under the newest checkpoint.

        Raises `MerkleLogError` for a position that nothing stands at or that isn't sealed yet, and
        `TamperedError` where the commit isn't the one that was signed.
        """
        return self._look(partial(inclusion, self.tiles, position))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """What proves that the tree of ``new`` leaves begins with that of ``old`` leaves."""
        return self._calls.run(consistency, self.tiles, old, new)

    def verify(
        self,
        *,
        remembered: Iterable[bytes] = (),
        since: bytes | None = None,
        authorities: bytes | None = None,
    ) -> LogReport:
        """Compute everything again, and report the first fault, if there is one.

        ``remembered`` are checkpoints kept elsewhere, such as a witness's: what they say has to be
        so. With ``since``, one that was verified before, only what is newer is computed again.
        ``authorities``, certificates in PEM, have all timestamps of checkpoints checked, too.
        Raises `MerkleLogError` where one of these isn't signed by the log.
        """
        verification = self._calls.run(self._verification, list(remembered), since)
        while self._look(verification.go_on):
            pass
        report = verification.report()
        if authorities is None or report.fault is not None:
            return report
        found, fault = self._calls.run(check, self.tiles, authorities)
        return msgspec.structs.replace(report, fault=fault, timestamps=tuple(found))

    def _verification(self, remembered: list[bytes], since: bytes | None) -> Verification:
        at = None
        with contextlib.suppress(VerifyError):  # it is a fault, and named as such
            at = newest(self.tiles)
        keys = self._verifiers(self._origin_of(at))
        notes = [_remembered(note, keys) for note in remembered]
        earlier = None if since is None else _remembered(since, keys)
        return Verification(self.tiles, keys, remembered=notes, since=earlier)

    def _verifiers(self, origin: str) -> list[Verifier]:
        """The log's keys, the oldest first. Raises `MerkleLogError` where none is known."""
        first = self._key
        try:
            if first is None:
                known = self.tiles.read(KEY)
                if known is None and self._signer is not None:
                    return [self._signer.verifier]
                if known is None:
                    raise MerkleLogError(
                        "the log's key is not known; give it, or seal first, with seal() or "
                        "'everwhen checkpoint'"
                    )
                first = Verifier.parse(known.decode().strip())
            rollovers = open_rollovers(self.tiles.read(ROLLOVERS) or b"")
            key_at(first, origin, rollovers, 0)
        except (VerifyError, UnicodeDecodeError) as error:
            raise TamperedError(
                f"the log's keys don't follow from one another ({error})"
            ) from error
        return [first, *(rollover.new for rollover in rollovers)]

    def _look(self, work: Callable[[Read], T]) -> T:
        def look(view: EngineView) -> T:
            return work(view.read)

        return self._store._backend.view(look)


def _remembered(note: bytes, keys: Sequence[Verifier]) -> Signed:
    try:
        given = signed(note)
    except VerifyError as error:
        raise MerkleLogError(
            f"what is remembered is no checkpoint ({error}); give one of this log"
        ) from error
    try:
        open_note(parse_note(note), keys)
    except VerifyError as error:
        raise MerkleLogError(
            f"the remembered checkpoint doesn't count ({error}); give one of this log"
        ) from error
    return given
