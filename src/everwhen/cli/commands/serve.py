"""The command that opens a store to browsers and programs: ``serve``."""

from __future__ import annotations

import errno
import html
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everwhen import Projection, TableProjection
from everwhen.cli import user_code
from everwhen.cli.exit_codes import BUSY, NO_INPUT, USAGE, CommandStop
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    BranchOption,
    DecisionsOption,
    EventsOption,
    InvariantsOption,
    JsonOption,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.signed_log import LogOption
from everwhen.cli.signing_keys import needs_trust
from everwhen.cli.store_opening import check_exists, given_vault, path_of
from everwhen.cli.token_files import needs_server, tokens_in

if TYPE_CHECKING:
    from everwhen.web.tokens import AccessToken


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(serve))


@dataclass(frozen=True)
class AddressOptions:
    """Where to listen, and who can come there."""

    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1"
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8737
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="Listen on an address that other machines reach. It needs --tokens, and "
            "--certificate or --behind-proxy.",
        ),
    ] = False
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", metavar="FILE", help="Serve TLS with this certificate (PEM)."
        ),
    ] = None
    private_key: Annotated[
        Path | None,
        typer.Option(
            "--private-key", metavar="FILE", help="The certificate's key, if it is in its own file."
        ),
    ] = None
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy", help="A proxy of yours has the TLS, and hands on the Host header."
        ),
    ] = False
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="A name that the server is reached by. Repeat for several.",
        ),
    ] = None
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            metavar="ORIGIN",
            help="Let pages of this origin ask, such as https://dash.example. Repeat for several.",
        ),
    ] = None


@dataclass(frozen=True)
class RightsOptions:
    """What may be done there, and by whom."""

    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            metavar="FILE",
            envvar="EVERWHEN_TOKENS",
            help="The tokens that are let in, made by 'everwhen token', or env:NAME for a variable "
            "that holds the file's text. Without them a new one is in the URL that is printed.",
        ),
    ] = None
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Allow appends and commands, and changes of branches and projections."
        ),
    ] = False
    sql: Annotated[bool, typer.Option("--sql", help="Allow queries by SQL.")] = False
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Keep an audit entry on each change, in the store itself."),
    ] = False


@dataclass(frozen=True)
class DeclaredOptions:
    """The user's own code."""

    events: EventsOption = None
    fold_: Annotated[
        list[str] | None,
        typer.Option(
            "--fold",
            metavar="MODULE:NAME",
            help="Show states of your own fold. Repeat for several.",
        ),
    ] = None
    decisions_: DecisionsOption = None
    invariants_: InvariantsOption = None
    compensations_: Annotated[
        str | None,
        typer.Option(
            "--compensations",
            metavar="MODULE:NAME",
            help="Your Compensations: which event undoes which other.",
        ),
    ] = None
    projection_: Annotated[
        list[str] | None,
        typer.Option(
            "--projection",
            metavar="MODULE:NAME",
            help="Keep your own projection, or a list of them, up to date. Repeat for several.",
        ),
    ] = None
    log: LogOption = None
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:NAME",
            help="Your own function that makes the application: app(store, **given) returns "
            "create_app(store, …, **given).",
        ),
    ] = None


def serve(
    store: StoreArgument,
    *,
    address: AddressOptions,
    rights: RightsOptions,
    declared: DeclaredOptions,
    branch: BranchOption = None,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in your browser.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Serve a store over HTTP until Ctrl-C: to this machine only, and for reading, unless told.

    The URL that is printed has a token at its end. Whoever has it may do what is allowed here.
    """
    with needs_server():
        from everwhen.web.serving import Served, is_loopback, listen
        from everwhen.web.serving import serve as serving
    _check(address, rights, is_remote=not is_loopback(address.host))
    projections = _projections(declared, rights)
    check_exists(store)
    secret, tokens = _tokens(rights)
    with ExitStack() as held:
        vault = given_vault()
        if vault is not None:
            held.enter_context(vault)
        served = Served(
            location=store,
            branch=branch,
            events=user_code.event_types(declared.events),
            vault=vault,
            folds=[user_code.fold(named) for named in declared.fold_ or ()],
            projections=projections,
            app=None if declared.app is None else user_code.application(declared.app),
            **_governance(store, declared),
            scopes=_scopes(rights),
            tokens=tokens,
            is_audited=rights.audit,
            allowed_hosts=_names(address),
            cors=address.cors or (),
            behind_tls=address.behind_proxy,
            certificate=address.certificate,
            private_key=address.private_key,
        )
        listening = held.enter_context(_listening(listen, address))
        url = _url(address, listening.getsockname()[1], secret)

        def started() -> None:
            Output(json=json).fields({"url": url})
            sys.stdout.flush()
            if open_browser:
                held.callback(_open(url))

        import asyncio

        if asyncio.run(serving(served, listening, started)) == signal.SIGINT:
            raise KeyboardInterrupt


def _check(address: AddressOptions, rights: RightsOptions, *, is_remote: bool) -> None:
    """Raises `CommandStop` for what would be open to strangers, or makes no sense."""
    if rights.audit and not rights.write:
        raise CommandStop("--audit writes to the store; give --write too", USAGE)
    if address.private_key is not None and address.certificate is None:
        raise CommandStop("--private-key is that of a --certificate; give that too", USAGE)
    for path in (address.certificate, address.private_key):
        if path is not None and not path.exists():
            raise CommandStop(f"{path}: there is no such file; check the path", NO_INPUT)
    if not is_remote:
        return
    missing = [
        option
        for option, is_given in (
            ("--allow-remote", address.allow_remote),
            ("--tokens", rights.tokens is not None),
            ("--certificate or --behind-proxy", bool(address.certificate or address.behind_proxy)),
        )
        if not is_given
    ]
    if missing:
        raise CommandStop(
            f"--host {address.host}: other machines reach this address; it also needs "
            f"{', '.join(missing)}",
            USAGE,
        )


def _projections(
    declared: DeclaredOptions, rights: RightsOptions
) -> list[Projection[Any] | TableProjection]:
    """Raises `CommandStop` where there are tables to keep, and nothing may be written."""
    found = user_code.projections(declared.projection_ or ())
    tables = [one.name for one in found if isinstance(one, TableProjection)]
    if tables and not rights.write:
        raise CommandStop(f"--projection: {tables[0]!r} keeps tables; give --write too", USAGE)
    return found


def _governance(store: str, declared: DeclaredOptions) -> dict[str, Any]:
    """What is governed by, as `Served` has it. A log beside the store is served where it is."""
    if declared.log is not None:
        needs_trust()
        if not declared.log.is_dir():
            raise CommandStop(
                f"{declared.log}: there is no such log; make it with 'everwhen sign'", NO_INPUT
            )
    given = (
        ("decisions", declared.decisions_, user_code.decisions),
        ("invariants", declared.invariants_, user_code.invariants),
        ("compensations", declared.compensations_, user_code.compensations),
    )
    return {
        "log": declared.log,
        "store_file": None if declared.app else path_of(store),
        **{name: found(named) for name, named, found in given if named is not None},
    }


def _tokens(rights: RightsOptions) -> tuple[str | None, tuple[AccessToken, ...]]:
    """Those that are given; without them a new one, and what it is."""
    from everwhen.web.access import SCOPES
    from everwhen.web.tokens import new_token

    if rights.tokens is not None:
        return None, tokens_in(rights.tokens)
    secret, token = new_token("local", frozenset(SCOPES))
    return secret, (token,)


def _scopes(rights: RightsOptions) -> Any:
    more = {"append", "operate"} if rights.write else set()
    return frozenset({"read", *more, *({"sql"} if rights.sql else ())})


def _names(address: AddressOptions) -> list[str]:
    own = f"[{address.host}]" if ":" in address.host else address.host
    return [own, *(address.allowed_host or ())]


def _listening(
    listen: Callable[[str, int], socket.socket], address: AddressOptions
) -> socket.socket:
    try:
        return listen(address.host, address.port)
    except OSError as error:
        where = f"port {address.port} of {address.host}"
        if error.errno == errno.EADDRINUSE:
            raise CommandStop(
                f"{where} is in use; give another --port, or --port 0 for a free one", BUSY
            ) from error
        raise CommandStop(f"{where}: {error.strerror}; give another one", USAGE) from error


def _url(address: AddressOptions, port: int, secret: str | None) -> str:
    scheme = "http" if address.certificate is None else "https"
    host = f"[{address.host}]" if ":" in address.host else address.host
    token = "" if secret is None else f"#token={secret}"
    return f"{scheme}://{host}:{port}/{token}"


def _open(url: str) -> Callable[[], None]:
    """Open the URL by way of a file that only its owner reads, and return what deletes that.

    As a browser's argument the token would be in the list of processes, for everybody to see.
    """
    import webbrowser

    folder = tempfile.TemporaryDirectory(prefix="everwhen-")
    page = Path(folder.name) / "open.html"
    page.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(url)}">', "utf-8"
    )
    webbrowser.open(page.as_uri())
    return folder.cleanup
