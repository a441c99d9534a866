"""What is proven, what became of history, and what is left of a forgotten player, on paper."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from bitcraps.forgetting import Aftermath
from bitcraps.places import Places
from bitcraps.projections import top
from bitcraps.proving import ProvenRoll
from bitcraps.retention import ARCHIVED_AFTER, Moved
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


def print_sealed(console: Console, moved: Moved) -> None:
    """What the nightly job has done, and that no answer is another."""
    if not moved.size_after:
        heading(console, "The night is put away: its history is sealed")
        _print_moved(console, moved, ("", ""))
        return
    heading(console, "The night is put away: its history is sealed, and the file compacted")
    an_event = moved.size_after / moved.status.head
    rest = (f"  {an_event:,.0f} bytes an event, with read models and all", "dim")
    _print_moved(console, moved, rest)


def print_archived(console: Console, moved: Moved | str) -> None:
    """What becomes of it in the archive, or why that couldn't be tried out."""
    heading(console, f"In {ARCHIVED_AFTER.days} days it is in the archive, tried out on a copy")
    if isinstance(moved, str):
        console.print(f"  not tried out: {moved}", soft_wrap=True, markup=False)
    else:
        archive = f", and {_of_size(moved.status.archive_size)} of Parquet in the archive"
        _print_moved(console, moved, (archive, ""))


def _print_moved(console: Console, moved: Moved, rest: tuple[str, str]) -> None:
    """Sizes, which answers are what they were, and what came of the log."""
    now, wrong, damages = moved.after, moved.differing, len(moved.after.damages)
    leading = [f"{player} leads with {net:+,}" for player, net in top(now.half_time, 1)]
    sizes = f"{_of_size(moved.size_before)} → {_of_size(moved.size_after)}"
    console.print(
        Text.assemble(
            *((("  the file  ", "dim"), sizes, rest, "\n") if moved.size_after else ()),
            _mark(ok="half_time" not in wrong),
            f"at half time {''.join(leading) or 'nobody leads'}, of {len(now.half_time):,} players",
            ("" if "half_time" not in wrong else ", which it was NOT before", "bold red"),
            "\n",
            _mark(ok=not wrong),
            (f"NOT as before: {', '.join(wrong)}", "bold red")
            if wrong
            else f"all as before: read models built anew, {len(now.games):,} games, "
            f"{len(now.refused):,} refusals in the audit log, the branch from half time",
            (f"\n✗ {damages:,} damages found" if damages else "", "bold red"),
            "\n",
            _of_log(now.log),
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


def _of_size(size: int) -> str:
    return f"{size / 1_000:,.0f} KB"


def _of_log(log: LogReport) -> Text:
    if log.fault is None:
        said = f"{log.verified:,} commits verified: history is as it was signed"
        return Text.assemble(_mark(ok=True), said)
    return Text.assemble(_mark(ok=False), (str(log.fault), "bold red"))


def _mark(*, ok: bool) -> tuple[str, str]:
    return ("✓ ", "bold green") if ok else ("✗ ", "bold red")
