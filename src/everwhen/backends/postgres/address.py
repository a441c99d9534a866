"""Where a log is: a database, as libpq finds it, and a schema in it."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ProgrammingError

from everwhen.vocabulary.errors import DeclarationError

DEFAULT_SCHEMA: Final = "everwhen"
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,29}")
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
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        schemas = [value for name, value in given if name == "schema"]
        rest = urlencode([(name, value) for name, value in given if name != "schema"])
        conninfo = urlunsplit((parts.scheme, parts.netloc, parts.path, rest, parts.fragment))
        try:
            conninfo_to_dict(conninfo)
        except ProgrammingError as error:
            raise DeclarationError(
                f"the PostgreSQL URL can't be read ({_without(error, parts.password)}); write it "
                f"as postgresql://user@host:port/database?schema=name"
            ) from None
        schema = schemas[-1] if schemas else DEFAULT_SCHEMA
        if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
            raise DeclarationError(
                f"schema {schema!r}: a log's schema has up to 30 small letters, digits and "
                f"underscores, doesn't begin with a digit and not with 'pg_'"
            )
        return cls(conninfo, schema, schema)

    def beside(self, log: str) -> Address:
        """The address of another log beside this one, or beside the one that this is beside."""
        schema = f"{self.family}.{log}"
        if len(schema.encode()) > _MAX_NAME:
            raise DeclarationError(f"{log!r} is too long for the name of a log")
        return Address(self.conninfo, schema, self.family)

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


def _without(error: Exception, password: str | None) -> str:
    """The error's words, unless they may have the password."""
    words = str(error).partition("\n")[0]
    return "it isn't one of libpq's" if password and password in words else words
