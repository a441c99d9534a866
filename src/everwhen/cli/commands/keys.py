"""The commands about people's keys: ``keys`` makes and rotates them, ``forget`` destroys some."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen import KeyFile, Vault
from everwhen.cli.exits import NO, USAGE, CommandStop, say
from everwhen.cli.opening import existing, given_vault
from everwhen.cli.options import JsonOption, StoreArgument
from everwhen.cli.terminal import Output
from everwhen.errors import OutdatedVaultError
from everwhen.privacy.vault import check_subject


def register(app: typer.Typer) -> None:
    """Add these commands."""
    keys = typer.Typer(help="Make, rotate and list the keys that personal data is encrypted by.")
    keys.command("new")(new)
    keys.command("rotate")(rotate)
    keys.command("list")(list_keys)
    app.add_typer(keys, name="keys")
    app.command()(forget)


def new(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The key file to make.")],
    *,
    json: JsonOption = False,
) -> None:
    """Make a key file, which only you may read. Keep a copy apart from the vault and the store."""
    (key,) = KeyFile.create(file).keys()
    out = Output(json=json)
    if out.is_terminal:
        out.console.print(f"Made key {key.id} in {file}.")
    else:
        out.fields({"file": file, "key": key.id})


def rotate(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[SUBJECT]", help="Give only this subject a new data key."),
    ] = None,
    *,
    drop: Annotated[
        bool, typer.Option("--drop-old", help="Remove older keys from the key file.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Add a key to the key file, and wrap every data key of the vault with it.

    With a SUBJECT, give that one a new data key for what is written from now on. Nothing that was
    written changes either way, and all of it stays readable.
    """
    out = Output(json=json)
    with _vault() as vault:
        if subject is not None:
            version = vault.rotate(subject)
            out.fields({"subject": subject, "version": version})
            return
        if not isinstance(vault.keys, KeyFile):
            raise CommandStop("only a key file can be added to; give one with --key FILE", USAGE)
        key = vault.keys.add()
        wrapped = vault.rewrap()
        if drop:
            vault.keys.keep_only(key.id)
    if out.is_terminal:
        out.console.print(f"Key {key.id} wraps {wrapped:,} data keys now.")
    else:
        out.fields({"key": key.id, "wrapped": wrapped})


def list_keys(*, json: JsonOption = False) -> None:
    """List the subjects that have data keys, and which key wraps each. No key is shown.

    A key of somebody who has been forgotten was put back past Everwhen; it is marked so, and never
    used. Forget the subject again to destroy it.
    """
    out = Output(json=json)
    with _vault() as vault:
        leftover = set(vault.leftover_keys())
        for key in vault.subject_keys():
            if json:
                more = {"forgotten": True} if key in leftover else {}
                out.line(
                    {"subject": key.subject, "version": key.version, "key": key.key_id, **more}
                )
            else:
                mark = ("forgotten",) if key in leftover else ()
                out.row(key.subject, str(key.version), key.key_id, *mark)


def forget(
    store: StoreArgument,
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[SUBJECT]", help="The id of the person whose data it is."),
    ] = None,
    *,
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded",
            help="Forget those again whose erasure the store records, and the vault doesn't.",
        ),
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it. Nobody can undo it.")] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="Also forget an id without keys: no personal data can then be written under it.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Erase a person: show what would be destroyed, and with --apply destroy it, for good.

    Their keys go, and those of subjects below them (ann/…), so that what was encrypted with them
    can't be read any more, wherever it was copied. The events stay, with (erased) in place of it.

    A store doesn't open with a vault from before an erasure that it records. If there is no newer
    vault, --recorded in place of SUBJECT carries out on the vault what the store records.
    """
    out = Output(json=json)
    if recorded == (subject is not None):
        raise CommandStop("name a SUBJECT, or --recorded in its place", USAGE)
    if subject is None:
        _forget_recorded(store, out, apply=apply)
        return
    with existing(store, write=apply) as opened:
        vault = opened.vault
        if vault is None:
            raise CommandStop("say where the keys are: everwhen --vault FILE forget …", USAGE)
        check_subject(subject)
        if not apply:
            found, known = vault.subjects(subject), vault.is_forgotten(subject)
            if not found and not known:
                say(f"nobody called {subject!r} has keys in this vault; check the id")
            out.fields({"subject": subject, "keys_of": found, "forgotten": known})
            if out.is_terminal and (found or not known):
                out.console.print("Nothing was done yet; --apply does it, for good.")
            return
        if not (unknown or vault.subjects(subject) or vault.is_forgotten(subject)):
            raise CommandStop(
                f"nobody called {subject!r} has keys in this vault, so nothing was done; check the "
                f"id, or bar it for good with --unknown",
                NO,
            )
        erasure = opened.forget(subject)
    out.fields(
        {
            "subject": erasure.subject,
            "keys_of": list(erasure.subjects),
            "position": erasure.position,
            "to_rebuild": list(erasure.projections),
            "repeated": erasure.repeated,
        }
    )


def _forget_recorded(store: str, out: Output, *, apply: bool) -> None:
    subjects: tuple[str, ...] = ()
    with _vault("forget") as vault:
        try:
            with existing(store):
                pass
        except OutdatedVaultError as error:
            subjects = error.subjects
        if apply and subjects:
            vault.forget_all(subjects)
    if apply and subjects:
        with existing(store, write=True):
            pass  # opening it carries out what is left to do there
    out.fields({"subjects": list(subjects), "applied": apply})
    if out.is_terminal and subjects and not apply:
        out.console.print("Nothing was done yet; --apply does it, for good.")


def _vault(command: str = "keys") -> Vault:
    vault = given_vault()
    if vault is None:
        raise CommandStop(f"say where the vault is: everwhen --vault FILE {command} …", USAGE)
    return vault
