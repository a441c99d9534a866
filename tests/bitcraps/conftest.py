"""A vault for the casinos of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everwhen import KeyFile, Vault


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "vault.key")) as opened:
        yield opened
