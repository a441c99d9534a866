"""The threat model's tables are made from marks; a mark that claims what isn't tried is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.threat_table import PAGE, ROOT, MarkError, page, rows, tables

GOOD = 'pytest.mark.attack("a theft", about="history", answer="a lock", needs="a key")'


def made(folder: Path, *parts: str) -> Path:
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "test_it.py").write_text("\n".join(parts))
    return folder


def test_what_several_tests_try_is_one_row(tmp_path: Path) -> None:
    other = '@pytest.mark.attack("a theft")\nasync def test_two(): ...'
    root = made(tmp_path, other, f"@{GOOD}\n@given(1)\ndef test_one(): ...")
    (row,) = rows(root)
    assert row.line == (
        "| a theft | a lock | a key | `tests/test_it.py::test_two`<br>`tests/test_it.py::test_one` |\n"
    )
    assert "### On the history" in tables([row])


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (f"@{GOOD}\ndef helper(): ...", "no test of its own"),
        (f"@{GOOD}\nclass TestIt: ...", "no test of its own"),
        (f"X = pytest.param(1, marks={GOOD})", "no test of its own"),
        (f"@{GOOD}\n@pytest.mark.skip\ndef test_it(): ...", "skip on a test"),
        (f"@pytest.mark.xfail(reason='x')\n@{GOOD}\ndef test_it(): ...", "xfail on a test"),
        (f"@{GOOD}\ndef test_it(): ...\n@{GOOD}\ndef test_me(): ...", "keep one"),
        ('@pytest.mark.attack("a theft")\ndef test_it(): ...', "no test says what answers"),
        ('@pytest.mark.attack("x", answer="y")\ndef test_it(): ...', "go together"),
        (
            '@pytest.mark.attack("x", about="me", answer="y")\ndef test_it(): ...',
            "there are history",
        ),
        ('@pytest.mark.attack("x|y", about="history", answer="y")\ndef test_it(): ...', "no cell"),
        ("@pytest.mark.attack(NAME)\ndef test_it(): ...", "one text"),
    ],
)
def test_a_mark_that_claims_what_is_not_tried_is_refused(
    tmp_path: Path, source: str, why: str
) -> None:
    with pytest.raises(MarkError, match=why):
        rows(made(tmp_path, source))


def test_the_page_is_up_to_date() -> None:
    assert page(ROOT) == (ROOT / PAGE).read_text("utf-8"), "run make sync"
