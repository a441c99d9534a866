"""After a person is forgotten, nothing that an import leaves behind confirms a guess at them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from everwhen import KeyFile, Vault, open_store
from everwhen.exchange import import_events
from everwhen.exchange.errors import ImportedBeforeError, ImportFormatError
from everwhen.exchange.formats import format_of
from everwhen.exchange.row_digests import row_of, unpacked

ROW = (
    '{{"specversion":"1.0","id":"{n}","source":"/players","type":"Joined","subject":"{who}",'
    '"time":"2026-01-0{n}T00:00:00Z",'
    '"data":{{"name":{{"$personal":"{name}","subject":"{who}"}}}}}}\n'
)
NAMES = {"ada": "Ada Lovelace", "bob": "Bob"}


def text_with(names: dict[str, str]) -> bytes:
    rows = [ROW.format(n=n, who=who, name=name) for n, (who, name) in enumerate(names.items(), 1)]
    return "".join(rows).encode()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        yield vault


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "players.cloudevents.jsonl"
    found.write_bytes(text_with(NAMES))
    return found


def left_in(path: Path) -> bytes:
    """All that stays in the store's files, with each id as its bytes and as text."""
    return b"".join(one.read_bytes() for one in path.parent.glob(f"{path.name}*"))


def guesses(content: bytes, identity: bytes) -> list[bytes]:
    """What tells a right guess at a file's content: the digests that an import could leave."""
    plain = hashlib.sha256(content)
    named = hashlib.sha256(identity + plain.digest())
    return [  # the content's, the checkpoint's name, and how each commit id begins
        plain.hexdigest()[:32].encode(),
        named.hexdigest()[:32].encode(),
        named.digest()[:6],
    ]


def row_guess(who: str) -> int:
    """What a right guess at a row's content is kept as, where no key is in it."""
    n = list(NAMES).index(who) + 1
    row = row_of(("/players", str(n), "Joined", who, f"2026-01-0{n}T00:00:00Z"))
    return int.from_bytes(hashlib.blake2b(row, digest_size=8).digest())


def sketches_in(left: bytes) -> set[int]:
    """The digests of rows that the store's files have."""
    kept = re.findall(rb'"sketch":"([^"]+)"', left)
    return {digest for one in kept for digest in unpacked(base64.b64decode(one))}


@pytest.mark.attack(
    "a guess at a forgotten person is checked by an import's name or its commits' ids",
    about="people",
    answer="the key that was destroyed went into them: no guess can be confirmed",
    needs="a vault",
)
def test_a_guessed_name_is_not_confirmed(tmp_path: Path, vault: Vault, file: Path) -> None:
    identity = format_of(file).identity
    path, plain = tmp_path / "s.db", tmp_path / "plain.db"
    with open_store(path, vault=vault) as store:
        assert import_events(store, file).written == 2
        store.forget("ada")
        assert next(store.read()).event.data["name"] == {"$erased": "ada"}
        left = left_in(path)
    made = guesses(text_with(NAMES), identity)
    assert not [guess for guess in made if guess in left]
    sketched = sketches_in(left)
    assert len(sketched) == 2
    assert not [guess for guess in map(row_guess, NAMES) if guess in sketched]
    other = tmp_path / "none.cloudevents.jsonl"  # where nobody is in it, such a guess fits
    other.write_bytes(
        re.sub(rb'\{"\$personal":("[^"]*"),"subject":"[^"]*"\}', rb"\1", text_with(NAMES))
    )
    with open_store(plain, vault=vault) as store:
        import_events(store, other)
        left = left_in(plain)
    assert all(guess in left for guess in guesses(other.read_bytes(), identity))
    assert sorted(map(row_guess, NAMES)) == sorted(sketches_in(left))


def test_what_was_imported_is_recognised(tmp_path: Path, vault: Vault, file: Path) -> None:
    path = tmp_path / "s.db"
    with open_store(path, vault=vault) as store:
        assert import_events(store, file).written == 2
        for one in store.checkpoints():  # as if it had been cut off before its end
            with store.transaction() as transaction:
                transaction.delete_checkpoint(one.name)
        assert import_events(store, file).repeated == 2
    for _ in range(2):
        vault.rotate("ada")
        with open_store(path, vault=vault) as store:
            assert import_events(store, file).repeated == 2
            assert store.head().position == 2


def test_with_the_forgotten_in_it_nothing_is_taken_in_twice_unasked(
    tmp_path: Path, vault: Vault, file: Path
) -> None:
    with open_store(tmp_path / "s.db", vault=vault) as store:
        import_events(store, file)
        store.forget("ada")
        with pytest.raises(ImportFormatError, match="has been forgotten"):
            import_events(store, file)
        with pytest.raises(ImportedBeforeError, match="nobody can tell"):
            import_events(store, file, skip_invalid=True)
        assert store.head().position == 3  # with the erasure
        assert import_events(store, file, skip_invalid=True, again=True).written == 1


def test_a_file_that_has_grown_is_known_by_those_who_are_still_there(
    tmp_path: Path, vault: Vault, file: Path
) -> None:
    more = "".join(
        ROW.format(n=n, who=f"p{n}", name=f"P{n}").replace("2026-01-0", "2026-02-0")
        for n in range(3, 6)
    )
    with open_store(tmp_path / "s.db", vault=vault) as store:
        import_events(store, file)
        vault.rotate("bob")
        file.write_bytes(text_with(NAMES) + more.encode())
        with pytest.raises(ImportedBeforeError, match="about 2 of its 5 rows"):
            import_events(store, file)
        store.forget("ada")
        with pytest.raises(ImportedBeforeError, match="nobody can tell"):
            import_events(store, file, skip_invalid=True)
