"""After a person is forgotten, nothing that an import leaves behind confirms a guess at them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from everwhen import (
    KeyFile,
    Vault,
    import_events,
    open_store,
)
from everwhen.exchange.errors import ImportedBeforeError, ImportFormatError
from everwhen.exchange.formats import format_of

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
    other = tmp_path / "none.cloudevents.jsonl"  # where nobody is in it, such a guess fits
    other.write_bytes(
        re.sub(rb'\{"\$personal":("[^"]*"),"subject":"[^"]*"\}', rb"\1", text_with(NAMES))
    )
    with open_store(plain, vault=vault) as store:
        import_events(store, other)
        left = left_in(plain)
    assert all(guess in left for guess in guesses(other.read_bytes(), identity))


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
        with pytest.raises(ImportedBeforeError, match="can't be told"):
            import_events(store, file, skip_invalid=True)
        assert store.head().position == 3  # with the erasure
        assert import_events(store, file, skip_invalid=True, again=True).written == 1
