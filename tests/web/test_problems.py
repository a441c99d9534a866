"""Each kind of problem is explained where its type leads."""

from __future__ import annotations

import re
from pathlib import Path

from everwhen.web.problems import EVERY_PROBLEM, TYPES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "problems.md"
SECTION = re.compile(
    r"^## ([a-z-]+)\n\n\*\*(\d{3})\.\*\* (.+?)(?=\n\n## |\Z)", re.MULTILINE | re.DOTALL
)


def test_each_problem_has_its_section_and_none_is_of_another() -> None:
    sections = SECTION.findall(PAGE.read_text("utf-8"))
    assert TYPES.endswith("/docs/reference/problems.md#")
    assert sorted((name, int(status)) for name, status, _ in sections) == sorted(
        (problem.name, problem.status) for problem in EVERY_PROBLEM
    )
    assert PAGE.read_text("utf-8").count("\n## ") == len(sections)
    for name, _, words in sections:
        assert len(words) > 60, name
