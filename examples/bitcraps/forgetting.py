"""A player wants to be forgotten. It is tried out on a copy, and everything is checked again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bitcraps.casino import open_casino
from bitcraps.inspection import Findings, inspect_store
from bitcraps.places import Places
from bitcraps.proving import checked
from bitcraps.questions import Standing, TopPlayers
from everwhen import Query
from everwhen.merkle import LogReport
from everwhen_verify.errors import VerifyError


class Aftermath(msgspec.Struct, frozen=True):
    """What is left when a player has been forgotten.

    ``name`` is what they were called; ``found_in`` are the files in which that, or their e-mail
    address, can still be read. ``proofs_hold`` is how many of the ``proofs`` are still valid. The
    ``log`` isn't signed anew: a copy has nothing to say in the house's name.
    """

    name: str
    found_in: tuple[str, ...]
    standings: Sequence[Standing]
    findings: Findings
    log: LogReport
    proofs: int
    proofs_hold: int

    @property
    def all_is_well(self) -> bool:
        """Whether the player is gone, and nothing else is."""
        gone = not self.found_in
        proven = self.log.is_sound and self.proofs_hold == self.proofs
        return gone and proven and self.findings.all_is_well


async def forgotten(places: Places, player: str) -> Aftermath:
    """Forget the player in a passing copy of the casino, and look at what is left.

    The casino must be closed. Raises what the store, the vault and the log raise.
    """
    with tempfile.TemporaryDirectory(prefix="bitcraps-") as folder:
        copy = places.copied_to(Path(folder))
        with copy.open_vault() as vault:
            async with open_casino(copy.store, vault) as casino:
                opened = Query().stream(f"account-{player}").limit(1)
                (known,) = [recorded.event async for recorded in casino.store.read(opened)]
                await casino.store.forget(player)
                await casino.runner.catch_up()
                standings = (await casino.asks.ask(TopPlayers(3))).data
                findings = await inspect_store(casino.store)
                report = await copy.log_of(casino.store).verify()
        proofs = sorted(copy.proofs.glob("*.tlog-proof"))
        secrets = [text for text in (known.name, known.email) if isinstance(text, str)]
        return Aftermath(
            str(known.name),
            _files_with(copy.store.parent, secrets),
            standings,
            findings,
            report,
            len(proofs),
            sum(_holds(proof, copy.policy) for proof in proofs),
        )


def _holds(proof: Path, policy: Path) -> bool:
    try:
        checked(proof, policy)
    except VerifyError:
        return False
    return True


def _files_with(folder: Path, secrets: Sequence[str]) -> tuple[str, ...]:
    """The files in which any of these texts can be read."""
    found: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if any(secret.encode() in content for secret in secrets):
            found.append(str(path.relative_to(folder)))
    return tuple(found)
