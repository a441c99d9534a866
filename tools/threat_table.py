"""Writes the tables of docs/threat-model.md from the attackers' tests; ``--check`` only compares.

A test says which attack it tries, what answers it, and what that needs::

    @pytest.mark.attack(
        "a commit is changed",
        about="history",
        answer="its leaf hash is another one",
        needs="a signed checkpoint over it",  # may be left out
    )

What several tests try is one row; one of them has the answer, the others name the attack alone. A
test that is skipped or expected to fail tries nothing, and is refused here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = "docs/threat-model.md"
BEGIN: Final = "<!-- attacks: made from the tests by tools/threat_table.py -->\n"
END: Final = "<!-- end of the attacks -->\n"
ABOUT: Final = {
    "history": "On the history",
    "signatures": "On signatures and keys",
    "witnesses": "On witnesses and timestamps",
    "people": "On personal data and the audit log",
    "inputs": "With what is read",
    "web": "Over HTTP",
}
_NOT_TRIED: Final = ("skip", "skipif", "xfail")


class MarkError(ValueError):
    """A mark that can't be a row; the message names its place."""


@dataclass
class Row:
    """An attack, and the tests that try it."""

    attack: str
    about: str = ""
    answer: str = ""
    needs: str = ""
    tests: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """Its line in the table."""
        tests = "<br>".join(f"`{test}`" for test in self.tests)
        cells = (self.attack, self.answer, self.needs, tests)
        return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n"


def rows(root: Path) -> list[Row]:
    """The attacks of all tests, in the order of the tests. Raises `MarkError`."""
    found: dict[str, Row] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        place = path.relative_to(root).as_posix()
        text = path.read_text("utf-8")
        if "mark.attack" not in text or place.startswith("tests/_sync/"):  # made from tests/_async
            continue
        tree = ast.parse(text)
        tests = list(_tests(tree))
        tried = sum(len(_marks(test, "attack")) for test in tests)
        if tried != sum(_name_of(node) == "attack" for node in ast.walk(tree)):
            raise MarkError(
                f"{place}: a mark that no test of its own carries; put it above a test_…"
            )
        for test in tests:
            _add(found, test, f"{place}::{test.name}")
    for row in found.values():
        if not row.answer:
            raise MarkError(f"{row.tests[0]}: no test says what answers {row.attack!r}")
    return list(found.values())


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions that pytest collects."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            yield node


def _add(found: dict[str, Row], test: ast.FunctionDef | ast.AsyncFunctionDef, place: str) -> None:
    for mark in _marks(test, "attack"):
        given = _given(mark, place)
        row = found.setdefault(given["attack"], Row(given["attack"]))
        row.tests.append(place)
        if "answer" in given:
            if row.answer:
                raise MarkError(
                    f"{place}: {row.attack!r} has an answer at {row.tests[0]}; keep one"
                )
            row.about, row.answer = given["about"], given["answer"]
            row.needs = given.get("needs", "")
        for reason in _NOT_TRIED:
            if _marks(test, reason):
                raise MarkError(f"{place}: {reason} on a test that is to try {row.attack!r}")


def _given(mark: ast.Call, place: str) -> dict[str, str]:
    """What a mark says, as plain text."""
    try:
        (attack,) = (ast.literal_eval(one) for one in mark.args)
        given = {str(one.arg): ast.literal_eval(one.value) for one in mark.keywords}
    except ValueError:
        raise MarkError(f"{place}: an attack is one text, and its keywords are texts") from None
    given["attack"] = attack
    if not given.keys() <= {"attack", "about", "answer", "needs"}:
        raise MarkError(f"{place}: {sorted(given)}: there are about, answer and needs")
    if ("answer" in given) != ("about" in given) or ("needs" in given and "answer" not in given):
        raise MarkError(f"{place}: about, answer and needs go together, on one test of an attack")
    if given.get("about", "history") not in ABOUT:
        raise MarkError(f"{place}: about={given['about']!r}: there are {', '.join(ABOUT)}")
    for text in given.values():
        if not isinstance(text, str) or not text.strip() or "|" in text or "\n" in text:
            raise MarkError(f"{place}: {text!r} is no cell of a table: one line, and no |")
    return given


def _marks(test: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> list[ast.Call]:
    """The decorators that are this mark, from the top; called or (for those without words) not."""
    calls = [
        node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        for node in test.decorator_list
    ]
    return [call for call in calls if _name_of(call) == name]


def _name_of(node: ast.AST) -> str | None:
    """The mark's name, where a call is ``pytest.mark.NAME(…)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner = node.func.value
        if isinstance(owner, ast.Attribute) and owner.attr == "mark":
            return node.func.attr
    return None


def tables(found: list[Row]) -> str:
    """The tables, one for each thing that is attacked."""
    parts = []
    for about, title in ABOUT.items():
        lines = [row.line for row in found if row.about == about]
        if lines:
            head = "| attack | answer | needs | tried by |\n|---|---|---|---|\n"
            parts.append(f"\n### {title}\n\n{head}{''.join(lines)}")
    return "".join(parts) + "\n"


def page(root: Path) -> str:
    """The document with its tables made anew. Raises `MarkError`."""
    before, begin, rest = (root / PAGE).read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MarkError(f"{PAGE}: the lines that the tables stand between are missing")
    return before + begin + tables(rows(root)) + end + after


def main() -> int:
    """Write the page, or compare it; 1 where it differs, or a mark can't be a row."""
    try:
        made = page(ROOT)
    except MarkError as error:
        print(error)
        return 1
    target = ROOT / PAGE
    if "--check" not in sys.argv:
        target.write_text(made, "utf-8")
    elif target.read_text("utf-8") != made:
        print(f"{PAGE} is not up to date; run `make sync`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
