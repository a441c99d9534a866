"""A roll, proven: anybody can check it without the house, its store, or this program."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from uuid import UUID

import msgspec

from bitcraps.events import BetWon, DiceRolled
from bitcraps.places import Places
from everwhen import Query
from everwhen.aio import Store
from everwhen.merkle import LogReport, load_signer
from everwhen.merkle.aio import MerkleLog
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import Verdict, verify


class ProvenRoll(msgspec.Struct, frozen=True):
    """A roll, what it paid in all, and the file with its proof.

    ``hashes`` is how many it takes, and ``log`` what came out when the whole log was verified.
    """

    roll: DiceRolled
    paid: int
    file: Path
    hashes: int
    verdict: Verdict
    log: LogReport


async def prove_roll(store: Store, log: MerkleLog, places: Places, after: int) -> ProvenRoll | None:
    """Prove the roll after position ``after`` that paid most; None if none paid.

    Writes the proof, and a policy that trusts the house's key and asks for no witness. Both are
    checked by the stand-alone verifier, and the whole log is computed again. Raises its
    `VerifyError`, or what the log raises.
    """
    best, paid = await best_payer(store, after)
    if best is None:
        return None
    events = await store.commit_events(best)
    (roll,) = [recorded.event for recorded in events if isinstance(recorded.event, DiceRolled)]
    await log.sign()
    report = await log.verify()
    proof = await log.prove(events[0].position)
    places.proofs.mkdir(exist_ok=True)
    places.policy.write_text(f"log {load_signer(places.signer).verifier.vkey}\nquorum none\n")
    file = places.proofs / f"{roll.game}-{roll.roll}.tlog-proof"
    file.write_bytes(proof.encode())
    return ProvenRoll(roll, paid, file, len(proof.path), checked(file, places.policy), report)


def checked(proof: Path, policy: Path) -> Verdict:
    """What two files prove, as `everwhen-verify` reports it. Raises `VerifyError`."""
    return verify(proof.read_bytes(), Policy.parse(policy.read_bytes()))


async def best_payer(store: Store, after: int) -> tuple[UUID | None, int]:
    """The commit of the roll after position ``after`` that paid most, and how much."""
    paid: dict[UUID, int] = defaultdict(int)
    async for recorded in store.read(Query().types(BetWon).after(after)):
        paid[recorded.commit_id] += recorded.event.payout
    best = max(paid, key=lambda one: paid[one], default=None)
    return best, 0 if best is None else paid[best]
