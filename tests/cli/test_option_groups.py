"""A command that takes groups of options, as typer sees it and as it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from everwhen.cli.option_groups import expanded


@dataclass(frozen=True)
class Address:
    street: Annotated[str, typer.Option(help="The street.")]
    town: Annotated[str, typer.Option(help="The town.")] = "Ulm"


@dataclass(frozen=True)
class Wishes:
    name: Annotated[str, typer.Argument(help="Who.")] = "nobody"
    colour: Annotated[list[str] | None, typer.Option("--colour", "-c", help="Which.")] = None


def post(
    amount: Annotated[int, typer.Argument(help="How many.")],
    *,
    to: Address,
    fast: Annotated[bool, typer.Option("--fast", help="At once.")] = False,
    wishes: Wishes,
) -> None:
    """Post something."""
    typer.echo(str((amount, to, fast, wishes)))


APP = typer.Typer(add_completion=False)
APP.command()(expanded(post))


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("3 --street Main", (3, Address("Main"), False, Wishes())),
        (
            "3 ann --fast -c red --town Bonn --street Main -c blue",
            (3, Address("Main", "Bonn"), True, Wishes("ann", ["red", "blue"])),
        ),
    ],
)
def test_a_command_gets_its_groups(line: str, given: object) -> None:
    done = CliRunner().invoke(APP, line.split())
    assert (done.exit_code, done.stdout) == (0, f"{given}\n")


def test_what_has_no_default_is_required() -> None:
    done = CliRunner().invoke(APP, ["3"])
    assert done.exit_code == 2
    assert "--street" in done.output


def test_the_help_lists_a_groups_options_where_it_stands() -> None:
    told = CliRunner().invoke(APP, ["--help"], env={"TERM": "dumb", "NO_COLOR": "1"}).stdout
    places = [told.index(name) for name in ("--street", "--town", "--fast", "--colour")]
    assert places == sorted(places)
    assert "Post something." in told
    assert told.index("How many.") < told.index("Who.")
