"""Entries and tiles: byte by byte, and what must be refused."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.verify.logs import NOW, Slice

from everwhen_verify.entries import (
    FIRST,
    content_of,
    entry_of,
    evidence_of,
    leaf_of,
    parse_entry,
    parse_evidence,
)
from everwhen_verify.errors import MalformedError, VerifyError
from everwhen_verify.merkle import leaf_hash, root_of
from everwhen_verify.tiles import (
    NodeReader,
    decode_bundle,
    encode_bundle,
    parse_tile_path,
    tile_path,
    tile_width,
)

ONE = [Slice(9, "game-1", 4, 2, metadata=b"{}", body=b"body")]
TWO = [Slice(9, "game-1", 4, 2), Slice(10, "player-ü", 1, body=b"")]
BIG = [Slice(9, "game-1", 4, 2, body=b"x" * 65_536)]
U8, U16, U32, U64 = 1, 2, 4, 8


def test_an_entry_byte_by_byte() -> None:
    expected = b"".join(
        (
            b"everwhen-commit/v1\n",
            (5).to_bytes(U64),
            b"p" * 32,
            (NOW * 1_000_000).to_bytes(U64),
            bytes(15) + b"\x07",
            (0).to_bytes(U8),
            (2).to_bytes(U32),
            b"{}",
            (9).to_bytes(U64),
            (4).to_bytes(U64),
            (2).to_bytes(U32),
            (6).to_bytes(U16),
            b"game-1",
            (4).to_bytes(U32),
            b"body",
        )
    )
    assert entry_of(5, b"p" * 32, ONE) == expected
    assert leaf_of(5, b"p" * 32, ONE) == sha256(b"\0" + expected).digest()
    assert content_of(ONE) == expected[84:]


def test_a_large_entry_has_its_content_s_hash() -> None:
    entry = entry_of(5, b"p" * 32, BIG)
    assert entry[83:] == b"\x01" + sha256(b"everwhen-content/v1\n" + content_of(BIG)).digest()
    assert leaf_of(5, b"p" * 32, BIG) == leaf_hash(entry)
    assert parse_entry(entry).slices is None
    assert parse_evidence(entry) == (leaf_hash(entry), parse_entry(entry))
    leaf, known = parse_evidence(evidence_of(5, b"p" * 32, BIG))
    assert leaf == leaf_hash(entry)
    assert known.slices is not None
    assert known.slices[0].body == BIG[0].body
    changed = bytearray(evidence_of(5, b"p" * 32, BIG))
    changed[-1] ^= 1
    with pytest.raises(MalformedError, match="the content does not fit its hash"):
        parse_evidence(bytes(changed))


@pytest.mark.parametrize("extra", [0, 1])
def test_the_largest_entry_that_holds_its_content(extra: int) -> None:
    room = 65_535 - len(entry_of(0, FIRST, [replace(ONE[0], body=b"")]))
    entry = entry_of(0, FIRST, [replace(ONE[0], body=b"x" * (room + extra))])
    assert len(entry) == (65_535 if extra == 0 else 116)
    assert leaf_hash(entry) == leaf_of(0, FIRST, [replace(ONE[0], body=b"x" * (room + extra))])


@pytest.mark.parametrize("commit", [ONE, TWO], ids=["one", "two"])
def test_entries_are_read_back(commit: list[Slice]) -> None:
    entry = parse_entry(entry_of(5, b"p" * 32, commit))
    assert (entry.index, entry.previous, entry.recorded_at) == (5, b"p" * 32, NOW * 1_000_000)
    assert (entry.id.int, entry.time.year, entry.metadata) == (7, 2026, commit[0].metadata)
    assert entry.slices is not None
    for found, wanted in zip(entry.slices, commit, strict=True):
        for name in ("position", "version", "count", "stream", "body"):
            assert getattr(found, name) == getattr(wanted, name)


def test_without_metadata_is_not_with_empty_metadata() -> None:
    commit = [replace(ONE[0], metadata=b"")]
    assert parse_entry(entry_of(0, FIRST, commit)).metadata == b""
    assert leaf_of(0, FIRST, commit) != leaf_of(0, FIRST, [replace(ONE[0], metadata=None)])


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_bytes_are_an_entry_or_refused(data: bytes, keep: int) -> None:
    for given_ in (data, entry_of(5, b"p" * 32, TWO)[:keep] + data):
        try:
            entry = parse_entry(given_)
        except VerifyError:
            continue
        assert entry.slices or entry.content_hash


@given(st.data())
def test_a_cut_entry_is_refused(data: st.DataObject) -> None:
    entry = entry_of(5, b"p" * 32, ONE)
    with pytest.raises(MalformedError):
        parse_entry(entry[: data.draw(st.integers(0, len(entry) - 1))])


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (1, 1234067, 256, "tile/1/x001/x234/067"),
        (63, 5, 255, "tile/63/005.p/255"),
        ("entries", 1000, 1, "tile/entries/x001/000.p/1"),
    ],
)
def test_tile_paths(level: int | Literal["entries"], index: int, width: int, path: str) -> None:
    assert tile_path(level, index, width) == path
    tile = parse_tile_path(path)
    assert (tile.level, tile.index, tile.width) == (level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "tile/64/000",
        "tile/00/000",
        "tile/0/x000/001",
        "tile/0/1",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/../000",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/\u0660\u0660\u0660",
        "tile/-1/000",
        "tile/0/001/000",
    ],
)
def test_what_is_no_tile_path_is_refused(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@given(st.text(alphabet="tile/0123x.pentris", max_size=30))
def test_any_text_is_a_tile_path_or_refused(path: str) -> None:
    try:
        tile = parse_tile_path(path)
    except MalformedError:
        return
    assert tile_path(tile.level, tile.index, tile.width) == path


def test_the_published_widths() -> None:
    """C2SP tlog-tiles: 70,000 leaves, and 256."""
    assert [tile_width(70_000, 0, i) for i in (0, 272, 273, 274)] == [256, 256, 112, 0]
    assert [tile_width(70_000, level, 1) for level in (1, 2)] == [17, 0]
    assert tile_width(70_000, 2, 0) == 1
    assert [tile_width(256, level, 0) for level in (0, 1, 2)] == [256, 1, 0]


def test_nodes_come_from_tiles_which_are_read_once() -> None:
    leaves = [leaf_hash(bytes([i % 256, i >> 8])) for i in range(600)]
    above = [root_of(leaves[i * 256 : (i + 1) * 256]) for i in range(2)]
    asked: list[tuple[int, int, int]] = []

    def read(level: int, index: int, width: int) -> bytes:
        asked.append((level, index, width))
        return b"".join((leaves, above)[level][index * 256 : index * 256 + width])

    reader = NodeReader(600, read)
    for level, index in ((0, 599), (3, 74), (7, 0), (8, 1), (9, 0), (0, 598)):
        whole = leaves[index << level : (index + 1) << level]
        assert reader.node(level, index) == root_of(whole)
    assert asked == [(0, 2, 88), (0, 0, 256), (1, 0, 2)]
    for level, index in ((0, 600), (9, 1), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="no node"):
            reader.node(level, index)
    with pytest.raises(MalformedError, match=r"tile/0/000\.p/3: it has 5 bytes"):
        NodeReader(3, lambda *_: b"short").node(0, 0)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_bundles(entries: list[bytes]) -> None:
    bundle = encode_bundle(entries)
    assert decode_bundle(bundle, len(entries)) == entries
    for wrong, width in ((bundle + b"\0", len(entries)), (bundle, len(entries) + 1)):
        with pytest.raises(MalformedError):
            decode_bundle(wrong, width)
    with pytest.raises(ValueError, match="65,536 bytes"):
        encode_bundle([bytes(65_536)])
