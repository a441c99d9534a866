"""The arithmetic, against RFC 6962's own definitions written down as they stand there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwhen_verify.errors import ProofError
from everwhen_verify.merkle import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_from,
    root_of,
)

LEAVES = [leaf_hash(bytes([i])) for i in range(256)]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    """RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def node(level: int, index: int) -> bytes:
    return mth(LEAVES[index << level : (index + 1) << level])


@pytest.mark.parametrize("size", range(40))
def test_every_proof_of_small_trees(size: int) -> None:
    leaves = LEAVES[:size]
    root = mth(leaves)
    assert root_of(leaves) == root_from(size, node) == root
    for index in range(size):
        found = inclusion_path(index, size, node)
        assert found == path(index, leaves)
        check_inclusion(leaves[index], index, size, found, root)
        for other in range(size):
            if other != index:
                with pytest.raises(ProofError):
                    check_inclusion(leaves[index], other, size, found, root)
    for old in range(size + 1):
        proof = consistency_path(old, size, node)
        assert proof == (subproof(old, leaves, whole=True) if old else [])
        check_consistency(old, mth(LEAVES[:old]), size, root, proof)


@given(st.integers(0, 256), st.lists(st.integers(0, 60), max_size=8))
def test_a_frontier_grows_one_by_one_and_in_batches(start: int, batches: list[int]) -> None:
    start = min(start, 200)
    frontier, single = Frontier(), Frontier()
    for size in (start, *batches):
        batch = LEAVES[frontier.size : frontier.size + size]
        frontier.extend(batch)
        for leaf in batch:
            single.append(leaf)
        assert frontier.size == single.size
        assert frontier.peaks == single.peaks
        assert frontier.root() == mth(LEAVES[: frontier.size])
        frontier = Frontier(frontier.size, frontier.peaks)


def test_a_frontier_has_a_peak_for_each_bit_of_its_size() -> None:
    with pytest.raises(ValueError, match="3 leaves doesn't have 1 peaks"):
        Frontier(3, LEAVES[:1])


def test_what_a_tree_does_not_have_is_refused() -> None:
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_path(index, size, node)
        with pytest.raises(ProofError, match="no leaf"):
            check_inclusion(LEAVES[0], index, size, [], LEAVES[0])
    with pytest.raises(ValueError, match="can't grow"):
        consistency_path(4, 3, node)
    with pytest.raises(ProofError, match="can't have grown"):
        check_consistency(4, LEAVES[0], 3, LEAVES[0], [])
    with pytest.raises(ProofError, match="no leaf"):
        check_inclusion(LEAVES[0], 0, 1 << 63, [], LEAVES[0])
    with pytest.raises(ProofError, match="31 bytes"):
        check_inclusion(LEAVES[0][1:], 0, 1, [], LEAVES[0])


@given(st.data())
def test_a_changed_proof_proves_nothing(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 200))
    leaves = LEAVES[:size]
    root = mth(leaves)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size - 1))
    inclusion = inclusion_path(index, size, node)
    consistency = consistency_path(old, size, node)
    change = data.draw(st.sampled_from(["flip", "drop", "add", "swap"]))
    for proof in (inclusion, consistency):
        at = data.draw(st.integers(0, len(proof) - 1))
        if change == "flip":
            bit = data.draw(st.integers(0, 255))
            proof[at] = (int.from_bytes(proof[at]) ^ (1 << bit)).to_bytes(32)
        elif change == "drop":
            del proof[at]
        elif change == "add":
            proof.insert(at, LEAVES[at])
        elif len(proof) > 1:
            proof[at], proof[at - 1] = proof[at - 1], proof[at]
        else:
            proof[0] = root
    with pytest.raises(ProofError):
        check_inclusion(leaves[index], index, size, inclusion, root)
    with pytest.raises(ProofError):
        check_consistency(old, mth(LEAVES[:old]), size, root, consistency)


def test_proofs_are_as_long_as_they_have_to_be_and_no_longer() -> None:
    size = 10_000_000
    made = [len(inclusion_path(i, size, lambda *_: bytes(32))) for i in (0, 4_999_999, size - 1)]
    assert max(made) <= 24


def test_from_the_empty_tree_and_to_the_same_tree_nothing_is_to_be_proven() -> None:
    root = mth(LEAVES[:5])
    check_consistency(0, EMPTY_ROOT, 5, root, [])
    check_consistency(5, root, 5, root, [])
    for old_size, old_root, proof in (
        (0, root, []),
        (0, EMPTY_ROOT, [root]),
        (5, EMPTY_ROOT, []),
        (5, root, [root]),
        (3, mth(LEAVES[:3]), []),
    ):
        with pytest.raises(ProofError):
            check_consistency(old_size, old_root, 5, root, proof)


# The eight leaves that Certificate Transparency's own tests use, with their published roots.
PUBLISHED_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
PUBLISHED_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PUBLISHED_PATHS = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (3, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (2, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
PUBLISHED_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def published(count: int) -> list[bytes]:
    return [leaf_hash(bytes.fromhex(leaf)) for leaf in PUBLISHED_LEAVES[:count]]


def published_node(level: int, index: int) -> bytes:
    return root_of(published(8)[index << level : (index + 1) << level])


def test_published_roots() -> None:
    assert [root_of(published(n)).hex() for n in range(1, 9)] == PUBLISHED_ROOTS


def test_published_paths() -> None:
    for (leaf, size), wanted in PUBLISHED_PATHS.items():
        found = inclusion_path(leaf - 1, size, published_node)
        assert [part.hex() for part in found] == wanted
        root = bytes.fromhex(PUBLISHED_ROOTS[size - 1])
        check_inclusion(published(8)[leaf - 1], leaf - 1, size, found, root)


def test_published_consistency() -> None:
    for (old, new), wanted in PUBLISHED_CONSISTENCY.items():
        found = consistency_path(old, new, published_node)
        assert [part.hex() for part in found] == wanted
        roots = [bytes.fromhex(PUBLISHED_ROOTS[size - 1]) for size in (old, new)]
        check_consistency(old, roots[0], new, roots[1], found)
