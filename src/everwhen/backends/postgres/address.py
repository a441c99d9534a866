"""Where a log is: a database, as libpq finds it, and a schema in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import ProgrammingError

from everwhen.vocabulary.errors import DeclarationError

DEFAULT_SCHEMA: Final = "everwhen"
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,29}")
_PARAMETER: Final = "schema="
_MAX_NAME: Final = 63
"""The bytes of a name in PostgreSQL; what is longer it cuts off without a word."""
_SHOWN: Final = ("user", "host", "port", "dbname")


class Address(msgspec.Struct, frozen=True):
    """``conninfo`` is libpq's, without the schema; it may have a password, so it isn't shown.

    ``family`` is the schema of the log that the others are beside.
    """

    conninfo: str
    schema: str
    family: str

    @classmethod
    def parsed(cls, url: str) -> Address:
        """What a URL says: libpq's, with the log's schema as one more parameter, ``schema``.

        Raises `DeclarationError`, which never quotes it: it may have a password.
        """
        rest, mark, query = url.rpartition("?")
        given = query.split("&") if mark else []
        kept = [one for one in given if not one.startswith(_PARAMETER)]
        conninfo = (rest if mark else url) + ("?" if kept else "") + "&".join(kept)
        try:
            conninfo_to_dict(conninfo)
        except (ProgrammingError, ValueError, UnicodeError):
            raise DeclarationError(
                "the PostgreSQL URL isn't one that libpq reads; write it as "
                "postgresql://user@host:port/database?schema=name, with what is special in a name "
                "or a password as %XX"
            ) from None
        named = [unquote(one[len(_PARAMETER) :]) for one in given if one.startswith(_PARAMETER)]
        schema = named[-1] if named else DEFAULT_SCHEMA
        if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
            raise DeclarationError(
                f"schema {schema!r:.40}: a log's schema has up to 30 small letters, digits and "
                f"underscores, doesn't begin with a digit and not with 'pg_'"
            )
        return cls(conninfo, schema, schema)

    def beside(self, log: str) -> Address:
        """The address of another log beside this one, or beside the one that this is beside."""
        schema = f"{self.family}.{log}"
        if len(schema.encode()) > _MAX_NAME:
            raise DeclarationError(f"{log!r} is too long for the name of a log")
        return Address(self.conninfo, schema, self.family)

    def with_defaults(self, defaults: Mapping[str, str]) -> str:
        """libpq's, with parameters that it doesn't have itself."""
        known = conninfo_to_dict(self.conninfo)
        return make_conninfo(self.conninfo, **{k: v for k, v in defaults.items() if k not in known})

    @property
    def url(self) -> str:
        """What it was parsed from, password and all."""
        return f"{self.conninfo}{'&' if '?' in self.conninfo else '?'}{_PARAMETER}{self.schema}"

    @property
    def place(self) -> str:
        """Which log it is, without saying how one gets in."""
        known: dict[str, Any] = conninfo_to_dict(self.conninfo)
        said = {name: known.get(name) or "" for name in _SHOWN}
        user = f"{said['user']}@" if said["user"] else ""
        port = f":{said['port']}" if said["port"] else ""
        return f"postgresql://{user}{said['host']}{port}/{said['dbname']}?schema={self.schema}"

    def __repr__(self) -> str:
        return f"Address({self.place!r})"
