"""Where the stores of a test are, beside the kinds that the fixture ``location`` has anyway."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

everywhere = pytest.mark.parametrize("location", ["memory", "sqlite", "postgresql"], indirect=True)
"""For a test that is worth it in memory, too."""


def logs_beside(location: str) -> list[str]:
    """What a store that isn't in memory has beside its own log: a file or a schema for each."""
    if not location.startswith("postgresql:"):
        path = parse_qs(urlsplit(location).query).get("replica", [location])[0]
        found = Path(path).parent.glob("*-branches/*")
        return list({path.name.partition(".db")[0] for path in found})
    import psycopg

    url, _, schema = location.partition("?schema=")
    with psycopg.connect(url) as session:
        rows = session.execute(
            "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (f"{schema}.",)
        )
        return [name for (name,) in rows]
