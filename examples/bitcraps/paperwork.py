"""What is proven, and what is left of a player who was forgotten, on paper."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from bitcraps.forgetting import Aftermath
from bitcraps.places import Places
from bitcraps.proving import ProvenRoll
from bitcraps.summary import heading, leaders, report
from everwhen.merkle import LogReport


def print_proof(console: Console, proven: ProvenRoll, places: Places) -> None:
    """The log as a whole, and the roll."""
    roll, verdict = proven.roll, proven.verdict
    heading(console, "Signed and proven")
    console.print(
        Text.assemble(
            _of_log(proven.log),
            ("\n  signed by ", "dim"),
            verdict.log.name,
            ("\n  root      ", "dim"),
            verdict.checkpoint.root.hex(),
            "\n",
            _mark(ok=True),
            f"roll {roll.roll} of game {roll.game}, {roll.first} and {roll.second}, which paid "
            f"{proven.paid:,}: proven by {proven.hashes} hashes",
            ("\n  proof     ", "dim"),
            str(proven.file),
            ("\n  policy    ", "dim"),
            str(places.policy),
        ),
        soft_wrap=True,
    )


def print_aftermath(console: Console, player: str, aftermath: Aftermath) -> None:
    """What came of forgetting the player, in the copy."""
    heading(console, f"If {player} asks to be forgotten, tried out on a copy")
    console.print(leaders(aftermath.standings))
    console.print(report(aftermath.findings))
    where = ", ".join(aftermath.found_in)
    console.print(
        Text.assemble(
            _of_log(aftermath.log),
            "\n",
            _mark(ok=aftermath.proofs_hold == aftermath.proofs),
            f"{aftermath.proofs_hold} of {aftermath.proofs} proofs of rolls still hold\n",
            _mark(ok=not where),
            f"{aftermath.name} and their e-mail address are in no file" if not where else "",
            (f"{aftermath.name} can still be read in {where}", "bold red") if where else "",
        ),
        soft_wrap=True,
    )


def _of_log(log: LogReport) -> Text:
    if log.fault is None:
        said = f"{log.verified:,} commits verified: history is as it was signed"
        return Text.assemble(_mark(ok=True), said)
    return Text.assemble(_mark(ok=False), (str(log.fault), "bold red"))


def _mark(*, ok: bool) -> tuple[str, str]:
    return ("✓ ", "bold green") if ok else ("✗ ", "bold red")
