"""The pure parts of an undo: names, tags, ranges, and what can be looked at."""

from __future__ import annotations

import pickle
from uuid import UUID

import pytest

from everwhen import Commit, Write
from everwhen.errors import UndoError
from everwhen.undo import UndoPlan
from everwhen.undo.undo_plan import ranges_of
from everwhen.undo.undo_status import naming, naming_tag, own_tags, place_in
from everwhen.vocabulary import CommitMetadata

COMMIT = UUID(int=7)
REF = f"{COMMIT}/3"


def test_positions_in_few_words() -> None:
    assert ranges_of([]) == {"events": 0, "positions": []}
    assert ranges_of([7, 3, 4, 5]) == {"events": 4, "positions": [[3, 5], [7, 7]]}
    scattered = ranges_of(range(1, 1_000, 2))
    assert scattered["events"] == 500
    assert len(scattered["positions"]) == 100
    assert scattered["positions"][0] == [1, 1]
    assert scattered["positions"][-1] == [199, 999]


def test_names_and_tags() -> None:
    assert place_in(REF) == (COMMIT, 3)
    tags = ("undo", naming_tag(REF, redo=False), "vip", naming_tag(REF, redo=True), "undoes:me")
    assert own_tags(tags) == ("vip", "undoes:me")
    assert [set(s.tags) for s in naming([REF]).selectors] == [{f"undoes:{REF}"}, {f"redoes:{REF}"}]


def test_an_error_survives_a_pickle() -> None:
    back = pickle.loads(pickle.dumps(UndoError("no", "yes")))  # noqa: S301
    assert (back.why, back.fix, str(back)) == ("no", "yes", "no; yes")


def test_a_plan_is_a_value_and_makes_one_commit() -> None:
    write, guard = Write("a", ["event"], 3), Write("b", (), 1)
    own = CommitMetadata(causation_id="cause", extras={"undoes": 1})
    plan = UndoPlan(
        what="undo", position=9, commit_id=COMMIT, appended=(write,), guards=(guard,), metadata=own
    )
    given = CommitMetadata(user_id="ann", causation_id="other", extras={"undoes": 2, "web": True})
    assert plan.commit(given) == Commit(
        (write, guard),
        None,
        COMMIT,
        CommitMetadata(user_id="ann", causation_id="cause", extras={"undoes": 1, "web": True}),
    )
    plan.check(allow_partial=False)
    with pytest.raises(AttributeError):
        plan.what = "else"  # type: ignore[misc]
    with pytest.raises(UndoError, match="no such events"):
        UndoPlan(what="undo", position=9, commit_id=COMMIT).check(allow_partial=True)
