"""``python -m bitcraps``: play a night, look at it while it goes on, and travel back through it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Final

from bitcraps.casino import open_casino
from bitcraps.crew import CrewError, crew
from bitcraps.forgetting import forgotten
from bitcraps.night import Night, Others, Plan, Share
from bitcraps.places import Places
from bitcraps.proving import prove_roll
from bitcraps.retention import Moved, seal_night, try_archive
from everwhen import EverwhenError
from everwhen.errors import UnsupportedError
from everwhen_verify.errors import VerifyError

try:
    from rich.console import Console

    from bitcraps.live import watch
    from bitcraps.paperwork import print_aftermath, print_archived, print_proof, print_sealed
    from bitcraps.summary import print_invitation, print_summary
    from bitcraps.travel import print_travels
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "rich":
        raise
    sys.exit("bitcraps: rich is needed to show a night; pip install 'everwhen[cli]'")

_FAILURES: Final = (EverwhenError, VerifyError, CrewError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a night. Returns the exit code: 0 where the inspector found nothing wrong."""
    given = _parser().parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    plan = Plan(
        given.tables,
        given.players,
        given.rolls if given.rolls or given.seconds else Plan().rolls,
        given.seconds,
        given.seed,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="bitcraps-") as folder:
            named = (given.store or "").removeprefix("sqlite:").removeprefix("memory:")
            places = Places.of(named or f"{folder}/night.db")
            return asyncio.run(_night(console, places, plan, given))
    except _FAILURES as error:
        return _failed(error)
    except ExceptionGroup as group:  # of tasks
        failures, others = group.split(_FAILURES)
        if failures is None or others is not None:
            raise
        return _failed(failures)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _failed(error: Exception) -> int:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    print(f"bitcraps: {error}", file=sys.stderr)  # noqa: T201
    return 1


async def _night(console: Console, places: Places, plan: Plan, given: argparse.Namespace) -> int:
    with places.open_vault() as vault:
        async with open_casino(places.location, vault) as casino:
            can_seal = casino.store.capabilities.seals
            night = Night(casino, plan, share=Share(of=given.processes))
            others = crew(places, plan, given.processes) if given.processes > 1 else None
            async with places.log_of(casino.store) as log:
                await _played(console, night, others, quiet=given.quiet)
                if night.last_position == night.first_position:
                    console.print("Nobody came to play.")
                    return 0
                findings = await print_summary(console, night)
                winner = await print_travels(console, night)
                proven = await prove_roll(casino.store, log, places, night.first_position)
    is_well = findings.all_is_well
    if proven is not None:
        print_proof(console, proven, places)
        if can_seal:
            sealed = await seal_night(places, night.middle)
            print_sealed(console, sealed)
            is_well &= sealed.all_is_well
        archived = await _archived(places, night.middle)
        print_archived(console, archived)
        aftermath = await forgotten(places, winner)
        print_aftermath(console, winner, aftermath)
        is_well &= proven.log.is_sound and aftermath.all_is_well
        is_well &= isinstance(archived, str) or archived.all_is_well
    if given.store:
        print_invitation(console, night, winner, places, proven)
    else:
        console.print(
            "\n[dim]The store was a passing one; name a file to keep the next night.[/dim]"
        )
    return 0 if is_well else 1


async def _archived(places: Places, middle: int) -> Moved | str:
    """What becomes of history in the archive; or which library that needs."""
    try:
        return await try_archive(places, middle)
    except UnsupportedError as error:
        return str(error)


async def _played(console: Console, night: Night, others: Others | None, *, quiet: bool) -> None:
    """Play it, with a view of it in a terminal; Ctrl-C closes the tables, twice breaks off."""
    playing = asyncio.create_task(night.play(others))
    watching = None
    if console.is_terminal and not quiet:
        watching = asyncio.create_task(watch(console, night))

    def interrupt() -> None:
        if night.is_closing:
            playing.cancel()
        night.close()

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
    try:
        await playing
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitcraps",
        description="Play a night at a craps casino into an Everwhen store, and travel through it.",
        epilog="The same seed on a new store gives the same events in every stream.",
    )
    parser.add_argument(
        "store",
        metavar="STORE",
        nargs="?",
        help="a file, or the URL of a log in PostgreSQL or on a cluster; else a passing one",
    )
    whole = Plan()
    parser.add_argument(
        "--tables", metavar="N", type=_number(1, 1_000), default=whole.tables, help="default 16"
    )
    parser.add_argument(
        "--players", metavar="M", type=_number(1, 10_000), default=whole.players, help="default 96"
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=_number(1, 64),
        default=1,
        help="deal at the tables in N processes, on the one store (default 1)",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--rolls",
        metavar="N",
        type=_number(1, 1_000_000),
        help=f"how often each table rolls at least: a hand is played to its end "
        f"(default {whole.rolls})",
    )
    end.add_argument(
        "--seconds", metavar="S", type=_number(1, 86_400), help="play for S seconds instead"
    )
    parser.add_argument("--seed", metavar="K", type=int, default=whole.seed, help="default 7")
    parser.add_argument("--quiet", action="store_true", help="no live view")
    return parser


def _number(least: int, most: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{text}: give a whole number from {least:,} to {most:,}"
            )
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
