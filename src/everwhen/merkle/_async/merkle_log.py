"""The Merkle log of a store: it follows the store, signs what is new, proves and verifies."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Literal, TypeAlias, TypeVar

import msgspec

from everwhen.backends._async.concurrency import Background, Calls, Lock, wait_for_news
from everwhen.backends.engine import EngineView
from everwhen.backends.notifier import News
from everwhen.branches.lineage import base_of
from everwhen.merkle.log_writer import Cosigner, LogWriter, Signed, newest, signed
from everwhen.merkle.proofs import consistency, inclusion
from everwhen.merkle.proven_reads import ProvenIndex
from everwhen.merkle.store_notes import SIGNED_HERE
from everwhen.merkle.tamper_diagnosis import Fault, FaultKind, UnprovenError
from everwhen.merkle.tile_stores import CHECKPOINT, KEY, ROLLOVERS, TileFolder, TileStore
from everwhen.merkle.timestamps import Timestamp, TimestampAuthority, check, stamp
from everwhen.merkle.verification import LogReport, Proven, Verification
from everwhen.store._async.store import Store, check_store
from everwhen.store.retirement_records import RetirementRecord, newest_record, retired_end
from everwhen.vocabulary.contract import Checkpoint, StoredSlice
from everwhen.vocabulary.errors import (
    CorruptStoreError,
    EverwhenError,
    MerkleLogError,
    StorageError,
    TamperedError,
)
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.paging import ReadPage
from everwhen_verify.errors import VerifyError
from everwhen_verify.memory import Memory, Remembered
from everwhen_verify.notes import Kind, Note, Signer, Verifier
from everwhen_verify.proofs import Proof
from everwhen_verify.rollover import (
    LogKey,
    Rollover,
    handed_over,
    open_checkpoint,
    open_rollovers,
    sign_rollover,
)

T = TypeVar("T")
Taken: TypeAlias = Callable[[Sequence[StoredSlice]], None]


class MerkleLog:
    """Every commit of a store, or of a branch, as a leaf of a signed Merkle tree.

    ``tiles`` is where the log lies: a folder's path, or `MemoryTiles`. With a ``signer`` it can
    sign; without one it proves and verifies. ``key`` is a key of the log that the caller knows,
    such as its first, else the one that the folder says. How keys have handed over since is in the
    folder, signed by both; only the one in force at a checkpoint's size counts as having signed
    it. The log's name is that of its keys.

    With a ``memory``, what `verify` has found sound is remembered there, beside the reader and not
    in the log's folder, and whatever is verified at this place later has to go on from it: a log
    that was set back, forked or replaced is noticed by anyone who looks twice. Where no ``key`` is
    given, the remembered one is the key that the caller knows.

    As a context manager it signs in the background: within ``max_delay``, what `append` has
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
        memory: Memory | None = None,
    ) -> None:
        self.store = check_store(store)
        """Whose log it is."""
        self.tiles = TileFolder(tiles) if isinstance(tiles, str | os.PathLike) else tiles
        self._signer = signer
        self._key = Verifier.parse(key) if isinstance(key, str) else key
        self._max_delay = max_delay
        self._witnesses = witnesses
        self._memory = memory
        self._calls = Calls(self.tiles)
        self._one_signing = Lock()
        self._one_proving = Lock()
        self._proven: ProvenIndex[LogReport] | None = None
        self._writer = LogWriter(self.tiles)
        self._news = News()
        self._is_over = False
        self._background: Background | None = None
        self.failure: Exception | None = None
        """What signing in the background failed with last; None once it works again."""

    # Signing

    async def sign(self) -> Signed:
        """Take in all that the store has, and sign it; returns the newest checkpoint.

        Raises `TamperedError` where the store isn't what was signed before, `CorruptStoreError`
        where its tables aren't those that Everwhen makes, and `MerkleLogError` without a signer, or
        with another one than the log's.
        """
        signer = self._signer
        if signer is None:
            raise MerkleLogError("nothing can be signed without a key; give a signer")
        async with self._locked():
            return await self._sign(signer)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Keep everybody else from signing meanwhile, here and in other processes."""
        async with self._one_signing:
            lock = self.tiles.lock()
            try:
                await self._calls.finish(lock.__enter__)
                yield
            except BaseException as error:
                await self._calls.finish(lock.__exit__, type(error), error, error.__traceback__)
                raise
            await self._calls.finish(lock.__exit__, None, None, None)

    async def _sign(self, signer: Signer) -> Signed:
        at = await self._signed_by(signer)
        await self._note_in_store(at)
        return at

    async def _signed_by(self, signer: Signer) -> Signed:
        await self.store.kernel.backend.check_schema()
        elsewhere = await self._record_of_root()
        at = await self._look(lambda read: self._writer.resume(read, elsewhere))
        mine = await self._calls.finish(self._key_of, signer, at)
        while await self._look(self._writer.take_in):
            pass
        checkpoint = await self._calls.finish(self._writer.unsigned, signer.name)
        if checkpoint is None:
            return await self._calls.finish(self._writer.signed_before)
        if not mine.signs(checkpoint.size):
            raise TamperedError(
                f"the log was handed over at {mine.first:,} commits, and the store has only "
                f"{checkpoint.size:,}"
            )
        note = Note(checkpoint.text, (signer.sign(checkpoint.text),))
        note = await self._witnessed(note)
        return await self._calls.finish(self._writer.publish, note.encode())

    async def _note_in_store(self, at: Signed) -> None:
        """Have the store say what was signed here: a log that is set back alone shows by that."""
        name = self._name_in_store()
        with suppress(EverwhenError):  # a store that can't be written to is signed all the same
            if name is not None and await self._last_in_store() != at.note:
                mine = Checkpoint(name, 0, at.note)
                await self.store.kernel.backend.transact(
                    lambda transaction: transaction.save_checkpoint(mine)
                )

    def _name_in_store(self) -> str | None:
        if not isinstance(self.tiles, TileFolder):
            return None
        place = hashlib.blake2b(os.fsencode(self._place()), digest_size=16)
        return f"{SIGNED_HERE}{place.hexdigest()}"

    async def _last_in_store(self) -> bytes | None:
        """The checkpoint that the store says was signed here; None where it can't say."""
        name = self._name_in_store()
        with suppress(EverwhenError):
            found = None if name is None else await self.store.checkpoint(name)
            return None if found is None else found.data
        return None

    async def _witnessed(self, note: Note) -> Note:
        def proof(old: int, new: int) -> list[bytes]:
            return consistency(self.tiles, old, new)

        for witness in self._witnesses:
            try:
                more = await self._calls.finish(witness.cosign, note.encode(), proof)
            except EverwhenError as error:  # the policy says whether it can be done without
                self.failure = error
            else:
                note = note.with_signatures(more)
        return note

    def _key_of(self, signer: Signer, at: Signed | None) -> LogKey:
        """The signer's key. Raises `MerkleLogError` unless it is the one whose turn it is."""
        if at is None and self.tiles.read(KEY) is None and not self.tiles.read(ROLLOVERS):
            self.tiles.replace(KEY, signer.verifier.vkey.encode() + b"\n")
        keys = self._keys()
        mine = keys[-1]
        if signer.verifier != mine.verifier:
            raise MerkleLogError(
                f"the log is signed by {mine.verifier.vkey}, not by {signer.verifier.vkey}; give "
                f"that key, or hand the log over with roll_over"
            )
        if at is not None:
            _check_own(at, keys)
        return mine

    async def roll_over(self, new: Signer) -> Signed:
        """Hand the log over to a new key, which signs from now on; both keys sign the handover.

        Everything is signed with the old key first. The new key must bear the log's name, and must
        never have been one of its keys: else `MerkleLogError` is raised, and nothing is written.
        Raises what `sign` raises.
        """
        old = self._signer
        if old is None:
            raise MerkleLogError("a log is handed over by its key; give a signer")
        async with self._locked():
            await self._calls.finish(self._check_successor, new.verifier, old.name)
            at = await self._sign(old)
            now = to_micros(self.store.clock()) // 1_000_000
            note = sign_rollover(old.name, old, new, at.checkpoint.size, now)
            known = self.tiles.read(ROLLOVERS) or b""
            await self._calls.finish(self.tiles.write_at, ROLLOVERS, len(known), note)
        self._signer = new
        return at

    def _check_successor(self, new: Verifier, origin: str) -> None:
        """Raises `MerkleLogError` for a key that the log can't be handed over to."""
        if new.name != origin or new.kind is not Kind.ED25519:
            raise MerkleLogError(
                f"{new.vkey} is not a key of the log {origin!r}; make one under that name"
            )
        known = [key.verifier for key in self._keys()]
        known += [verifier for one in self._rollovers() for verifier in (one.old, one.new)]
        if any(new.public_key == verifier.public_key for verifier in known):
            raise MerkleLogError(
                f"{new.vkey} is, or was, the log's key already; hand it over to a fresh one"
            )

    # In the background

    async def __aenter__(self) -> MerkleLog:
        await self.sign()
        self._is_over = False
        self._background = Background(self._keep_signing)
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._is_over = True
        self._news.publish()
        if self._background is not None:
            await self._background.join()
            self._background = None
        await self.sign()

    async def _keep_signing(self) -> None:
        pause = self._max_delay.total_seconds() / 2
        while True:
            seen = self._news.count
            if self._is_over:
                return
            began = time.monotonic()
            try:
                self.failure = None
                await self.sign()
            except (MerkleLogError, StorageError) as error:
                self.failure = error
                if isinstance(error, TamperedError):
                    return
            left = pause - (time.monotonic() - began)
            await wait_for_news(self._news, seen, max(left, pause / 10))

    # Asking

    async def checkpoint(self) -> Signed | None:
        """The newest checkpoint, as it lies there; None where nothing has been signed."""
        return await self._calls.run(newest, self.tiles)

    async def keys(self) -> tuple[LogKey, ...]:
        """The log's keys in the order of their handovers, and the sizes of tree that each signs.

        Raises `MerkleLogError` where none is known, and `TamperedError` where they don't follow
        from one another.
        """
        return await self._calls.run(lambda: self._keys(self._recall()))

    async def timestamp(self, authority: TimestampAuthority) -> Timestamp:
        """Have the newest checkpoint timestamped, and keep that in the log's folder.

        One that has a timestamp keeps it. Raises `TimestampError` where the authority gives none,
        `MerkleLogError` where nothing is signed yet, and `TamperedError` where the checkpoint isn't
        signed by the log's key.
        """
        at = await self._calls.run(self._own_newest)
        return await self._calls.finish(stamp, self.tiles, at, authority)

    async def prove(self, position: int) -> Proof:
        """The proof that the commit of this position is in the log, under the newest checkpoint.

        Raises `MerkleLogError` for a position without an event, or one that isn't signed yet or
        was retired, and `TamperedError` where the commit isn't the one that was signed, or the
        checkpoint isn't signed by the log's key.
        """
        at = await self._calls.run(self._own_newest)
        await self.store.kernel.backend.check_schema()
        elsewhere = await self._record_of_root()
        return await self._look(partial(inclusion, self.tiles, at, position, elsewhere))

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """What proves that the tree of ``new`` leaves begins with that of ``old`` leaves."""
        return await self._calls.run(consistency, self.tiles, old, new)

    async def verify(
        self,
        *,
        remembered: Iterable[bytes] = (),
        since: bytes | None = None,
        authorities: bytes | None = None,
    ) -> LogReport:
        """Compute everything again, and report the first fault, if there is one.

        ``remembered`` are checkpoints kept elsewhere, such as a witness's: what they say has to be
        so. With ``since``, one that was verified before, only what is newer is computed again, than
        that and all that is remembered; so is what queries find the commits by. ``authorities``,
        certificates in PEM, have all timestamps of checkpoints checked, too.

        The store says what was last signed at this place, too, as far as it could be written then:
        so a log that was set back alone is found without any memory.
        With a memory, what it holds has to be so as well, and where no fault is found it then holds
        the newest checkpoint. Raises `MerkleLogError` where one of those given isn't signed by the
        log, and `everwhen_verify.errors.MemoryFileError` for a memory that is damaged: it is never
        taken for an empty one.
        """
        report = await self._verified(list(remembered), since)
        if authorities is not None and report.fault is None:
            found, fault = await self._calls.run(check, self.tiles, authorities)
            report = msgspec.structs.replace(report, fault=fault, timestamps=tuple(found))
        return await self._calls.finish(self._keep, report)

    async def _verified(
        self, remembered: list[bytes], since: bytes | None, taken: Taken | None = None
    ) -> LogReport:
        known = await self._calls.run(self._recall)
        noted = await self._last_in_store()
        elsewhere = await self._record_of_root()
        verification = await self._calls.run(
            self._verification, remembered, since, known, noted, taken, elsewhere
        )
        if isinstance(verification, LogReport):
            return verification
        rollovers = await self._calls.run(self._rollovers)
        await self._run(verification, derived=taken is None)
        return msgspec.structs.replace(
            verification.report(),
            rollovers=tuple(rollovers),
            key_from=self._key_from(known),
            remembered=known,
        )

    async def _run(self, verification: Verification, *, derived: bool) -> None:
        backend = self.store.kernel.backend
        try:
            if derived:
                await backend.check_schema()
            while await self._look(verification.go_on):
                pass
            if derived and verification.is_sound:
                verification.judge(await backend.find_hidden(verification.after))
        except CorruptStoreError as error:
            verification.damaged(error)

    def _verification(
        self,
        remembered: list[bytes],
        since: bytes | None,
        known: Remembered | None,
        noted: bytes | None,
        taken: Taken | None,
        elsewhere: RetirementRecord | None,
    ) -> Verification | LogReport:
        """The run that verifies; a report where what is remembered isn't of this log at all.

        What the store has ``noted`` counts only where the log has signed it.
        """
        keys = self._keys(known)
        notes = [_remembered(note, keys) for note in remembered]
        earlier = None if since is None else _remembered(since, keys)
        if known is not None and self._memory is not None:
            note = known.note.encode()
            try:
                open_checkpoint(note, keys)
            except VerifyError as error:
                fault = Fault(
                    FaultKind.FOREIGN,
                    f"what was verified here before was signed by another key, or the log was "
                    f"handed over before that: {error}",
                    expected=known.key,
                    found=keys[-1].verifier.vkey,
                )
                key_from = self._key_from(known)
                return LogReport(fault, 0, 0, 0, (), b"", key_from=key_from, remembered=known)
            notes.append(signed(note))
        if noted is not None:
            with suppress(VerifyError):
                open_checkpoint(noted, keys)
                notes.append(signed(noted))
        notes += self._seen_elsewhere(keys)
        return Verification(
            self.tiles, keys, remembered=notes, since=earlier, taken=taken, elsewhere=elsewhere
        )

    # Proven reads

    async def proven(self) -> Proven:
        """Up to where reads with ``proven=`` this log go: to the newest signed commit.

        What was signed since this was asked last is gone through: the first time, all of it. Raises
        `UnprovenError` where the store isn't what was signed, or nothing is signed, and what
        `verify` raises.
        """
        index = await self.signed_index()
        return Proven(index.position, index.report)

    async def signed_index(self) -> ProvenIndex[LogReport]:
        """What was signed, for reads to be checked against; raises what `proven` does."""
        async with self._one_proving:
            known = self._proven
            note = await self._calls.run(self.tiles.read, CHECKPOINT)
            if known is not None and note == known.report.checkpoint:
                return known
            self._proven = None  # one that is left half-way isn't used again
            index: ProvenIndex[LogReport] = ProvenIndex() if known is None else known
            since = None if known is None else known.report.checkpoint
            report = await self._verified([], since, index.take)
            report = await self._calls.finish(self._keep, report)
            if report.fault is not None:
                raise UnprovenError(report.fault)
            index.confirm(report)
            self._proven = index
            return index

    # What is remembered

    async def forget_remembered(self) -> bool:
        """Have the memory forget this log, made anew on purpose; whether it knew anything of it.

        Raises `everwhen_verify.errors.MemoryFileError` where that can't be deleted.
        """
        memory = self._memory
        if memory is None:
            return False
        return await self._calls.finish(lambda: memory.forget(self._place()))

    def _place(self) -> str:
        if isinstance(self.tiles, TileFolder):
            return os.path.abspath(self.tiles.path)  # noqa: PTH100  a link stays one
        return f"log:{(self._key or self._key_in_folder()).name}"

    def _recall(self) -> Remembered | None:
        return None if self._memory is None else self._memory.recall(self._place())

    def _key_from(self, known: Remembered | None) -> Literal["given", "remembered", "log"]:
        if self._key is not None:
            return "given"
        return "log" if known is None else "remembered"

    def _seen_elsewhere(self, keys: Sequence[LogKey]) -> list[Signed]:
        """What was verified of this log at other places, as far as the log goes here.

        A copy may be older than what was seen elsewhere, but it can't be another history.
        """
        try:
            at = newest(self.tiles)
        except VerifyError:  # which is the fault that is found
            at = None
        if self._memory is None or at is None:
            return []
        return [
            Signed(one.checkpoint, one.note.encode())
            for key in keys
            for one in self._memory.others(key.verifier.vkey, self._place())
            if one.checkpoint.size <= at.checkpoint.size and key.signs(one.checkpoint.size)
        ]

    def _keep(self, report: LogReport) -> LogReport:
        if self._memory is None or report.fault is not None:
            return report
        now = to_micros(self.store.clock()) // 1_000_000
        key = Verifier.parse(report.signed_by[0])
        try:
            kept = self._memory.keep(self._place(), report.checkpoint, key, now)
        except VerifyError as error:
            return msgspec.structs.replace(report, not_remembered=str(error))
        mine, theirs = signed(report.checkpoint).checkpoint, kept.checkpoint
        fault = None
        if mine.size == theirs.size and mine.root != theirs.root:
            fault = Fault(
                FaultKind.REWRITTEN,
                f"another history of {mine.size:,} commits was verified at the same time",
                expected=theirs.root.hex(),
                found=mine.root.hex(),
            )
        return msgspec.structs.replace(report, fault=fault, remembered=kept)

    def _own_newest(self) -> Signed | None:
        """The newest checkpoint, which the log's own key has signed. Raises `TamperedError`."""
        try:
            at = newest(self.tiles)
        except VerifyError as error:
            raise TamperedError(f"the log's folder is damaged ({error})") from error
        if at is not None:
            _check_own(at, self._keys(self._recall()))
        return at

    def _keys(self, known: Remembered | None = None) -> tuple[LogKey, ...]:
        """The log's keys, and what each signs; the last is the one whose turn it is.

        Raises `MerkleLogError` where none is known.
        """
        try:
            remembered = None if known is None else Verifier.parse(known.key)
            first = self._key or remembered or self._key_in_folder()
            return handed_over([LogKey(first)], self._rollovers())
        except (VerifyError, UnicodeDecodeError) as error:
            why = f"the log's keys don't follow from one another ({error})"
            raise TamperedError(why) from error

    def _key_in_folder(self) -> Verifier:
        known = self.tiles.read(KEY)
        if known is not None:
            return Verifier.parse(known.decode().strip())
        if self._signer is not None:
            return self._signer.verifier
        raise MerkleLogError(
            "the log's key is not known; give it, or sign first, with sign() or 'everwhen sign'"
        )

    def _rollovers(self) -> list[Rollover]:
        return open_rollovers(self.tiles.read(ROLLOVERS) or b"")

    async def _record_of_root(self) -> RetirementRecord | None:
        """For a branch, the record of what was retired of the store that it is of.

        Raises `MerkleLogError` where that is more than the branch shares with it.
        """
        branch = self.store.kernel.branch
        if branch is None:
            return None
        branches = self.store.kernel.branches
        shared = base_of(None, branch, await branches.list())

        def look(view: EngineView) -> RetirementRecord | None:
            end = retired_end(view.read)
            if end <= shared:
                return newest_record(view.read, end) if end else None
            raise MerkleLogError(
                f"history up to position {end} was retired in the store that this branch is of, "
                f"and the branch shares it up to position {shared}: its log can't go on"
            )

        return await branches.root.view(look)

    async def _look(self, work: Callable[[ReadPage], T]) -> T:
        def look(view: EngineView) -> T:
            return work(view.read)

        return await self.store.kernel.backend.view(look)


def _remembered(note: bytes, keys: Sequence[LogKey]) -> Signed:
    try:
        given = signed(note)
    except VerifyError as error:
        raise MerkleLogError(
            f"what is remembered is not a checkpoint ({error}); give one of this log"
        ) from error
    try:
        open_checkpoint(note, keys)
    except VerifyError as error:
        raise MerkleLogError(
            f"the remembered checkpoint doesn't count ({error}); give one of this log"
        ) from error
    return given


def _check_own(at: Signed, keys: Sequence[LogKey]) -> None:
    """Raises `TamperedError` unless the log's key has signed it that does at that size."""
    try:
        open_checkpoint(at.note, keys)
    except VerifyError as error:
        raise TamperedError(f"the newest checkpoint is not the log's own ({error})") from error
