"""Where a log is: servers of a cluster, the store's name on it, and this node's replica."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import msgspec

from everwhen.vocabulary.errors import DeclarationError

Consistency: TypeAlias = Literal["own", "fresh"]
"""Whose writes a read sees: this node's own and, soon, others'; or all that were acknowledged."""

MAIN: Final = "main"
_STORE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_SCHEMES: Final = {"nats", "tls"}
_PORT: Final = 4222
_MONITORING_PORT: Final = 8222
ENCRYPTED: Final = "https://"
"""Before a monitoring port that speaks TLS."""
_FORM: Final = "nats://host1,host2,host3/store?replica=store.db"
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SECRET: Final = re.compile(r"S[A-Z2-7]{50,}|ey[A-Za-z0-9_-]{20,}\..*")
"""An nkey's seed, or a token, in the place of the file that has it."""
_FLAGS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class ClusterAddress(msgspec.Struct, frozen=True):
    """What a URL says; ``url`` is the URL itself, which may have a password, so it isn't shown.

    ``servers`` are clients' ports and ``monitors`` the ports that say how a server is set, each as
    ``host:port``, the latter with https:// before it where it speaks TLS. ``log`` is this log's
    name among those of the store. ``copies`` says on how many servers the log is kept, where it is
    made. A ``user`` without a password is a token.
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
        """Raises `DeclarationError`, which never quotes what may be a password.

        So it quotes nothing of what stands before the options, where a password with characters
        that aren't written as %XX would be.
        """
        parts = _parts(url)
        options = _options(parts.query)
        login, at, hosts = parts.netloc.rpartition("@")
        user, colon, password = login.partition(":")
        if at and not user:
            raise DeclarationError("the cluster's URL has no user before the @; name one")
        store = unquote(parts.path.removeprefix("/"))
        if not _STORE.fullmatch(store):
            raise DeclarationError(
                f"the cluster's URL doesn't name a store by up to 64 letters, digits, - and _; "
                f"write {_FORM}"
            )
        if not options.get("replica"):
            raise DeclarationError(
                f"the cluster's URL doesn't say where this node keeps its replica; add "
                f"?replica=PATH, as in {_FORM}"
            )
        files: dict[str, Any] = {name: options[name] for name in _FILES if name in options}
        _check_ways_in(files, has_login=bool(at))
        servers = _addresses("the servers before the store", hosts, _PORT)
        return cls(
            url=url,
            scheme=parts.scheme,
            servers=servers,
            monitors=_monitors(options.get("monitor", ""), servers),
            store=store,
            replica=Path(options["replica"]),
            copies=_copies(options.get("copies", "3")),
            consistency=_consistency(options.get("consistency", "own")),
            assume_durable=_flag("assume_durable", options.get("assume_durable", "no")),
            user=unquote(user) or None,
            password=unquote(password) if colon else None,
            **files,
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


def _parts(url: str) -> SplitResult:
    if not isinstance(url, str) or _UNPRINTABLE.search(url):
        raise DeclarationError(
            "the cluster's URL has an unprintable character in it; write it as %XX"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise DeclarationError(f"the cluster's URL can't be read; write {_FORM}") from None
    if parts.scheme not in _SCHEMES:
        raise DeclarationError(f"the cluster's URL begins with nats:// or tls://, as in {_FORM}")
    if "#" in url or "@" in parts.path + parts.query:
        raise DeclarationError(
            "the cluster's URL has a # in it, or an @ after the servers; where a user, a password "
            "or a path has one of / ? # @ : % + &, write it as %XX, as in %40 for @"
        )
    return parts


def _options(query: str) -> dict[str, str]:
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise DeclarationError(
            f"the options of the cluster's URL can't be read; write them as in {_FORM}"
        ) from None
    options: dict[str, str] = {}
    for name, value in given:
        if name not in _OPTIONS:
            near = get_close_matches(name, sorted(_OPTIONS), 1)
            meant = f" (is {near[0]} meant?)" if near else ""
            raise DeclarationError(
                f"the cluster's URL has an option that there isn't{meant}; there are "
                f"{', '.join(sorted(_OPTIONS))}"
            )
        if name in options:
            raise DeclarationError(f"the cluster's URL has {name} twice; leave one of them")
        if _UNPRINTABLE.search(value):
            raise DeclarationError(f"the cluster's URL has an unprintable character in {name}")
        options[name] = value
    return options


def _check_ways_in(files: Mapping[str, str], *, has_login: bool) -> None:
    """Raises where they contradict each other, or a secret stands where a file should."""
    for name, value in files.items():
        if not value:
            raise DeclarationError(f"the cluster's URL has {name} without a file; name one")
        if _SECRET.fullmatch(value):
            raise DeclarationError(
                f"the cluster's URL has a secret itself as {name}; put it into a file that only "
                f"you may read, and name the file (and take another secret: URLs get about)"
            )
    ways = [name for name in ("credentials", "nkey") if name in files]
    ways += ["a user before the @"] * has_login
    if len(ways) > 1:
        raise DeclarationError(
            f"the cluster's URL says twice who comes in: by {' and by '.join(ways)}; leave one"
        )
    if ("tls_key" in files) > ("tls_cert" in files):
        raise DeclarationError("the cluster's URL has a tls_key without the tls_cert; add it")


def _addresses(what: str, text: str, port: int) -> tuple[str, ...]:
    found = []
    for number, one in enumerate(text.split(","), 1):
        match = _HOST.fullmatch(one)
        if match is None or not 0 < int(match[2] or port) < 1 << 16:
            raise DeclarationError(
                f"the cluster's URL: of {what}, number {number} isn't host or host:port; write "
                f"several with commas between, as in {_FORM}"
            )
        found.append(f"{match[1]}:{match[2] or port}")
    return tuple(found)


def _monitors(text: str, servers: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are named, or the servers' hosts at the port that is named, or the usual one."""
    is_port = re.fullmatch("[0-9]{1,5}", text) is not None
    if text and not is_port:
        named = text.split(",")
        hosts = ",".join(one.removeprefix(ENCRYPTED) for one in named)
        found = _addresses("the monitoring ports", hosts, _MONITORING_PORT)
        return tuple(
            f"{ENCRYPTED * one.startswith(ENCRYPTED)}{where}"
            for one, where in zip(named, found, strict=True)
        )
    hosts = ",".join(server.rpartition(":")[0] for server in servers)
    return _addresses("the monitoring ports", hosts, int(text) if text else _MONITORING_PORT)


def _copies(text: str) -> int:
    if text not in {"1", "3", "5"}:
        raise DeclarationError(
            "the cluster's URL has copies as something else than 1, 3 or 5; write one of them"
        )
    return int(text)


def _consistency(text: str) -> Consistency:
    match text:
        case "own" | "fresh":
            return text
        case _:
            raise DeclarationError(
                "the cluster's URL has consistency as something else; write own or fresh"
            )


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise DeclarationError(f"the cluster's URL has {name} as something else; write yes or no")
    return _FLAGS[text.lower()]
