"""Whatever stands in a file: it is imported, or refused by name, and nothing is half-written."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.exchange.stores import everything, exported, imported, shop
from tests.exchange.test_xes import LOG

from everwhen import EverwhenError, open_store
from everwhen.exchange import CloudEvents, Csv, Format, ImportFormatError, Xes, import_events

SHOP = exported(shop()[0], CloudEvents())
TABLE = exported(shop()[0], Csv())
LINE = json.loads(SHOP.splitlines()[0])
FOREIGN = b"\n".join(
    json.dumps(
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "/sensor",
            "type": "Read",
            "time": f"2026-01-01T00:00:{number:02}Z",
            "data": {"n": number},
        }
    ).encode()
    for number in range(9)
)
SEEDS: list[tuple[bytes, Format]] = [
    (SHOP, CloudEvents()),
    (FOREIGN, CloudEvents()),
    (TABLE, Csv()),
    (b"s,t,n\na,1,2\nb,2,3\n", Csv(stream="s", time="t", type=None, constant_type="R")),
    (LOG, Xes()),
]


def attempt(text: bytes, format_: Format, *, skip_invalid: bool) -> None:
    """Import into an empty store: all that is refused leaves nothing, all else can be read."""
    half_written = False
    with open_store("memory:") as store:
        try:
            report = imported(store, text, format_, skip_invalid=skip_invalid)
        except EverwhenError as error:
            half_written = isinstance(error, ImportFormatError) and store.head().position > 0
        else:
            assert report.written == store.head().position
            assert len(everything(store)) == report.written
        assert not half_written
        assert store.check() == []


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, Format]:
    """A valid file with pieces cut out, doubled, exchanged or replaced."""
    seed, format_ = draw(st.sampled_from(SEEDS))
    start = draw(st.integers(0, max(0, len(seed) - 3_000)))
    start = seed.rfind(b"\n", 0, start) + 1 if start and not isinstance(format_, Xes) else 0
    text = seed[start : start + 3_000] if start else seed[:3_000]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        to = draw(st.integers(at, min(len(text), at + 40)))
        piece = draw(
            st.binary(max_size=6)
            | st.sampled_from([b'"', b"\n", b"\0", b"-", b"1e999", b"null", b"[", b"}", b"\xff"])
            | st.just(text[at:to] * 2)
        )
        text = text[:at] + piece + text[to:]
    return text, format_


@pytest.mark.slow
@settings(max_examples=1_000)
@given(case=mutated(), skip_invalid=st.booleans())
def test_mutated_files(case: tuple[bytes, Format], skip_invalid: bool) -> None:
    attempt(*case, skip_invalid=skip_invalid)


@settings(max_examples=150)
@given(text=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@example(b"\xff\xfe{}")
@example(b"[" * 100_000)
def test_random_bytes(text: bytes) -> None:
    for _, format_ in SEEDS:
        attempt(text, format_, skip_invalid=False)
        attempt(text, format_, skip_invalid=True)


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "0", "-1", "1", "99999999999999999999", 5, -5, 1 << 70, 1.5, True, [], {}, "\ud800"]
) | st.text(max_size=10)


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(LINE)), value=VALUES, at=st.integers(0, 5))
def test_attributes_of_an_export_that_lie(name: str, value: Any, at: int) -> None:
    lines = [json.loads(line) for line in SHOP.splitlines()[:6]]
    lines[at][name] = value
    text = "\n".join(map(json.dumps, lines)).encode()
    attempt(text, CloudEvents(), skip_invalid=False)
    attempt(text, CloudEvents(), skip_invalid=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:1] + lines[2:],
        lambda lines: lines[:-1],
        lambda lines: lines[3:6] + lines[:3],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0], *lines],
        lambda lines: [*lines, FOREIGN.splitlines()[0]],
        lambda lines: [lines[0].replace(b'"player":0', b'"player":NaN'), *lines[1:]],
        lambda lines: [lines[0].replace(b'"ewversion":"1"', b'"ewversion":"7"'), *lines[1:]],
    ],
)
def test_an_export_that_was_tampered_with(change: Callable[[list[bytes]], list[bytes]]) -> None:
    text = b"\n".join(change(SHOP.splitlines()[:9]))
    assert text != b"\n".join(SHOP.splitlines()[:9])
    with open_store("memory:") as store:
        with pytest.raises(EverwhenError):
            imported(store, text, CloudEvents())
        assert store.head().position == 0


def compressed(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(content)
    return path


def test_gzip_that_is_cut_or_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(SHOP)
    for content in (whole[:-30], whole[: len(whole) // 2], b"", SHOP, whole[:300] + whole[330:]):
        with open_store("memory:") as store:
            with pytest.raises(ImportFormatError, match="gzip") as caught:
                import_events(store, compressed(tmp_path, content))
            assert "events.jsonl.gz" in str(caught.value)
            assert store.head().position == 0
    with open_store("memory:") as store:
        import_events(store, compressed(tmp_path, gzip.compress(b"") + whole + b"\0" * 99))
        assert exported(store, CloudEvents()) == SHOP


# A process begins with its parent's peak as its own ru_maxrss, and the tests' is high; VmHWM is
# counted from the start of the program.
PROGRAM = """
import re, sys
from pathlib import Path
from everwhen import EverwhenError, open_store
from everwhen.exchange import import_events
with open_store("memory:") as store:
    try:
        import_events(store, sys.argv[1], skip_invalid=True)
    except EverwhenError as error:
        print(error, file=sys.stderr)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_a_small_file_that_unpacks_to_a_huge_one_takes_no_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = io.BytesIO()
    for _ in range(700):
        out.write(packer.compress(b"x" * (1 << 20)))
    out.write(packer.flush())
    assert out.tell() < 1 << 20
    path = compressed(tmp_path, out.getvalue())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 350, "MB, of 700"


def test_an_encrypted_zip_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "shop.jsonl.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("shop.jsonl", FOREIGN)
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1  # says that it is encrypted
    path.write_bytes(content)
    with open_store("memory:") as store:
        with pytest.raises(ImportFormatError, match="the zip archive is encrypted; unpack it"):
            import_events(store, path)
        assert store.head().position == 0
