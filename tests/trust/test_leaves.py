"""The loop that hashes a store's commits, held against the verifier's hash of each one alone."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from everwhen.merkle.leaf_hashes import Leaves
from everwhen.vocabulary.contract import StoredSlice
from everwhen_verify.entries import FIRST, leaf_of

_SIZES = st.sampled_from([2, 60, 70_000])
_COMMITS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(["a", "game-ü"]), _SIZES), min_size=1, max_size=3),
        st.none() | st.binary(max_size=20),
    ),
    max_size=8,
)


def slices_of(commits: list[tuple[list[tuple[str, int]], bytes | None]]) -> list[StoredSlice]:
    found: list[StoredSlice] = []
    for number, (parts, metadata) in enumerate(commits):
        for index, (stream, size) in enumerate(parts):
            at = len(found) + 1
            commit_id = number.to_bytes(16, "big")
            body = b"x" * size
            found.append(StoredSlice(at, stream, at, 1, number, commit_id, index, metadata, body))
    return found


@settings(max_examples=100, deadline=None)
@given(_COMMITS, st.integers(1, 5))
def test_the_loop_hashes_as_the_verifier_does(
    commits: list[tuple[list[tuple[str, int]], bytes | None]], at_once: int
) -> None:
    slices = slices_of(commits)
    leaves, found, ends = Leaves(), list[bytes](), list[int]()
    for start in range(0, len(slices), at_once):
        page = slices[start : start + at_once]
        found += leaves.take(page, ends, end=start + at_once >= len(slices))
    expected: list[bytes] = []
    positions: list[int] = []
    for _, commit in groupby(slices, key=lambda part: part.commit_id):
        whole = list(commit)
        expected.append(leaf_of(len(expected), expected[-1] if expected else FIRST, whole))
        positions.append(whole[-1].position)
    assert found == expected
    assert ends == positions
    assert (leaves.size, leaves.last) == (len(expected), expected[-1] if expected else FIRST)
