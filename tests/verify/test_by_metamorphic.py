"""metamorphic-log, written in Rust by others, reads our checkpoints and proofs."""

from __future__ import annotations

from typing import Any

import metamorphic_log
import pytest
from tests.verify.logs import NOW, ORIGIN, Log, witness

from everwhen_verify.merkle import inclusion_path, leaf_hash
from everwhen_verify.notes import Signer

theirs: Any = metamorphic_log
Refused: type[Exception] = theirs.VerifyError


@pytest.fixture(scope="module")
def log() -> Log:
    return Log.of(20)


def test_it_opens_our_checkpoints(log: Log) -> None:
    note, vkeys = log.signed(witness(), time=NOW).decode(), [log.signer.verifier.vkey]
    head = theirs.checkpoint_verify(note, vkeys)
    assert (head.origin, head.size, head.root) == (ORIGIN, 20, log.checkpoint().root)
    assert theirs.verify_signed_note(note, vkeys) == 1
    for wrong, keys in (
        (note.replace("\n20\n", "\n21\n"), vkeys),
        (note, [Signer.generate(ORIGIN).verifier.vkey]),
        (note.partition("—")[0], vkeys),
    ):
        with pytest.raises(Refused):
            theirs.checkpoint_verify(wrong, keys)


@pytest.mark.parametrize("index", range(20))
def test_it_accepts_our_inclusion_proofs(log: Log, index: int) -> None:
    note, vkeys = log.signed().decode(), [log.signer.verifier.vkey]
    path = inclusion_path(index, 20, log.node)
    theirs.checkpoint_verify_inclusion(note, vkeys, index, log.leaves[index], path)
    for wrong in (path[1:], [*path, path[0]], path[::-1]):
        with pytest.raises(Refused):
            theirs.checkpoint_verify_inclusion(note, vkeys, index, log.leaves[index], wrong)
    with pytest.raises(Refused):
        theirs.checkpoint_verify_inclusion(note, vkeys, index, leaf_hash(b""), path)


@pytest.mark.parametrize("old", range(1, 20))
def test_it_accepts_our_consistency_proofs(log: Log, old: int) -> None:
    vkeys = [log.signer.verifier.vkey]
    older, newer = log.signed(size=old).decode(), log.signed().decode()
    path = log.consistency(old)
    theirs.checkpoint_verify_consistency(older, newer, vkeys, path)
    fork = Log(log.signer)
    for _ in range(20):
        fork.append()
    fork.leaves[old - 1] = leaf_hash(b"")
    forked = fork.signed(size=old).decode()
    for notes in ((forked, newer), (older, fork.signed().decode())):
        with pytest.raises(Refused):
            theirs.checkpoint_verify_consistency(*notes, vkeys, path)
