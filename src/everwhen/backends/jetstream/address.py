"""Where a log is: servers of a cluster, the store's name on it, and this node's replica."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from everwhen.vocabulary.errors import DeclarationError

Consistency: TypeAlias = Literal["own", "fresh"]
"""Whose writes a read sees: this node's own and, soon, others'; or all that were acknowledged."""

MAIN: Final = "main"
_STORE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_PORT: Final = 4222
_MONITORING_PORT: Final = 8222
_FORM: Final = "nats://host1,host2,host3/store?replica=store.db"
_FLAGS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class ClusterAddress(msgspec.Struct, frozen=True):
    """What a URL says; ``url`` is the URL itself, which may have a password, so it isn't shown.

    ``servers`` are clients' ports and ``monitors`` the ports that say how a server is set, each as
    ``host:port``. ``log`` is this log's name among those of the store. ``copies`` says on how many
    servers the log is kept, where it is made.
    """

    url: str
    scheme: str
    servers: tuple[str, ...]
    monitors: tuple[str, ...]
    store: str
    replica: Path
    log: str = MAIN
    copies: int = 3
    consistency: Consistency = "own"
    assume_durable: bool = False
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    nkey: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @classmethod
    def parsed(cls, url: str) -> ClusterAddress:
        """Raises `DeclarationError`, which never quotes what may be a password."""
        try:
            parts = urlsplit(url)
            given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise DeclarationError(f"the cluster's URL can't be read; write {_FORM}") from error
        options = dict(given)
        if len(options) != len(given):
            twice = next(name for name, _ in given if [n for n, _ in given].count(name) > 1)
            raise DeclarationError(f"the cluster's URL has {twice!r} twice; leave one of them")
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            raise DeclarationError(
                f"the cluster's URL has {unknown[0]!r:.60}, which is no option; there are "
                f"{', '.join(sorted(_OPTIONS))}"
            )
        login, _, hosts = parts.netloc.rpartition("@")
        user, colon, password = login.partition(":")
        store = unquote(parts.path.removeprefix("/"))
        if not _STORE.fullmatch(store):
            raise DeclarationError(
                f"the cluster's URL names the store {store!r:.80}; give it up to 64 letters, "
                f"digits, - and _, as in {_FORM}"
            )
        if not options.get("replica"):
            raise DeclarationError(
                f"the cluster's URL doesn't say where this node keeps its replica; add "
                f"?replica=PATH, as in {_FORM}"
            )
        servers = _addresses(hosts, _PORT)
        monitors = options.get("monitor", "")
        return cls(
            url=url,
            scheme=parts.scheme,
            servers=servers,
            monitors=_monitors(monitors, servers),
            store=store,
            replica=Path(options["replica"]),
            copies=_copies(options.get("copies", "3")),
            consistency=_consistency(options.get("consistency", "own")),
            assume_durable=_flag("assume_durable", options.get("assume_durable", "no")),
            user=unquote(user) or None,
            password=unquote(password) if colon else None,
            **{name: options[name] for name in _FILES if name in options},
        )

    def beside(self, log: str, replica: Path) -> ClusterAddress:
        """The address of another log of the same store."""
        return msgspec.structs.replace(self, log=log, replica=replica)

    @property
    def stream(self) -> str:
        """The JetStream stream that has all logs of the store."""
        return f"EW_{self.store}"

    @property
    def subject(self) -> str:
        """The subject of this log's messages."""
        return f"ew.{self.store}.log.{self.log}"

    @property
    def place(self) -> str:
        """Which log it is, without saying how one gets in."""
        options = urlencode({"replica": str(self.replica)}, safe="/")
        return f"{self.scheme}://{','.join(self.servers)}/{self.store}?{options}"

    def __repr__(self) -> str:
        return f"ClusterAddress({self.place!r})"


_FILES: Final = ("credentials", "nkey", "tls_ca", "tls_cert", "tls_key")
_OPTIONS: Final = {"replica", "monitor", "copies", "consistency", "assume_durable", *_FILES}


def _addresses(text: str, port: int) -> tuple[str, ...]:
    found = []
    for one in text.split(","):
        match = _HOST.fullmatch(one)
        if match is None or not 0 < int(match[2] or port) < 1 << 16:
            raise DeclarationError(
                f"the cluster's URL names the server {one!r:.80}; write host or host:port, several "
                f"with commas between, as in {_FORM}"
            )
        found.append(f"{match[1]}:{match[2] or port}")
    return tuple(found)


def _monitors(text: str, servers: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are named, or the servers' hosts at the port that is named, or the usual one."""
    if text and not text.isdecimal():
        return _addresses(text, _MONITORING_PORT)
    hosts = ",".join(server.rpartition(":")[0] for server in servers)
    return _addresses(hosts, int(text or _MONITORING_PORT))


def _copies(text: str) -> int:
    if text not in {"1", "3", "5"}:
        raise DeclarationError(
            f"the cluster's URL says copies={text!r:.20}; a log is kept on 1, 3 or 5 servers"
        )
    return int(text)


def _consistency(text: str) -> Consistency:
    match text:
        case "own" | "fresh":
            return text
        case _:
            raise DeclarationError(
                f"the cluster's URL says consistency={text!r:.20}; write own or fresh"
            )


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise DeclarationError(f"the cluster's URL says {name}={text!r:.20}; write yes or no")
    return _FLAGS[text.lower()]
