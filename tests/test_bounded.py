"""Whatever is named for reading: a file without an end is refused, and takes little memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from everwhen import EverwhenError, KeyFile, open_store
from everwhen.audit.fallback import AuditFallback
from everwhen.exchange import CloudEvents, Csv, Format, ImportFormatError, Xes, import_events
from everwhen.exchange.errors import DamagedInputError
from everwhen.exchange.lines import lines
from everwhen.merkle.signing_keys import load_signer
from everwhen.system.bounded_files import read_file, read_secret
from everwhen_verify.program import run

ENDLESS = Path("/dev/zero")
needs_it = pytest.mark.skipif(not ENDLESS.exists(), reason="there is no /dev/zero here")


@pytest.mark.parametrize("read", [read_file, read_secret])
def test_a_file_of_the_largest_size_is_read(
    tmp_path: Path, read: Callable[[Path, int], bytes]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    path.chmod(0o600)
    assert read(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than 99 bytes") as caught:
        read(path, 99)
    assert caught.value.filename == str(path)


@needs_it
def test_key_files_without_an_end(tmp_path: Path) -> None:
    link = tmp_path / "key"
    link.symlink_to(ENDLESS)
    for read in (
        KeyFile(link).keys,
        lambda: load_signer(link),
        lambda: AuditFallback.key_from(ENDLESS),
    ):
        with pytest.raises(EverwhenError, match=r"larger than|others"):
            read()


@needs_it
def test_the_verifier_reads_no_file_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(ENDLESS), str(ENDLESS)]) == 2
    assert "too large" in capsys.readouterr().err


@needs_it
@pytest.mark.parametrize("format_", [CloudEvents(), Csv(), Xes()], ids=["jsonl", "csv", "xes"])
def test_imports_of_files_without_an_end(format_: Format) -> None:
    with open_store("memory:") as store, pytest.raises(ImportFormatError, match="line 1"):
        import_events(store, ENDLESS, format_)


def test_a_line_that_is_too_long_is_told_at_once_and_skipped_where_it_ends() -> None:
    chunks = [b"one\n", b"x" * 60, b"x" * 60, b"x\ntwo\n", b"y" * 30, b"y" * 30]
    found = lines(iter(chunks), 100)
    assert list(found) == [(1, b"one"), (2, None), (3, b"two"), (4, b"y" * 60)]
    endless = (b"z" * 60 for _ in iter(int, 1))
    assert next(lines(endless, 100)) == (1, None), "although it never ends"


def test_a_line_without_an_end_ends_the_import_also_where_invalid_ones_are_skipped() -> None:
    piece = b"z" * (1 << 26)
    found = lines((piece for _ in iter(int, 1)), 100)
    assert next(found) == (1, None)
    with pytest.raises(DamagedInputError, match="has more than 1,024 MiB"):
        next(found)


ENDLESS_XML: dict[str, Callable[[int], bytes]] = {
    "extensions": lambda n: b"<log>" + b'<extension name="x" prefix="x" uri="x"/>' * n,
    "lists": lambda n: b'<log><trace><event><list key="l">' + b"<values></values>" * n,
    "depth": lambda n: b"<log>" + b'<list key="l"><values>' * n,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(ENDLESS_XML))
def test_xml_that_goes_on_without_an_end(kind: str) -> None:
    read = Xes().read(iter([ENDLESS_XML[kind](250_000)]))
    with pytest.raises(DamagedInputError, match=r"too large|nested more than"):
        list(read)
