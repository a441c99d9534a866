"""The commands about people's keys: ``keys`` makes and rotates them, ``forget`` destroys some."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen import KeyFile, Vault
from everwhen.cli.exit_codes import NO, USAGE, CommandStop, say
from everwhen.cli.options import JsonOption, StoreArgument
from everwhen.cli.output import Output
from everwhen.cli.store_opening import existing, given_vault
from everwhen.errors import OutdatedVaultError
from everwhen.privacy.vault import check_subject


def register(app: typer.Typer) -> None:
    """Add these commands."""
    keys = typer.Typer(help="Make, rotate and list the keys that personal data is encrypted with.")
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
    """Make a key file that only you can read. Keep a copy apart from the vault and the store."""
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
        bool, typer.Option("--drop-old", help="Delete older keys from the key file.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Add a key to the key file, and encrypt every data key in the vault with it.

    With a SUBJECT, give that subject a new data key for what is written from now on. In both cases
    nothing that was written changes, and all of it stays readable.
    """
    out = Output(json=json)
    with _vault() as vault:
        if subject is not None:
            version = vault.rotate(subject)
            out.fields({"subject": subject, "version": version})
            return
        if not isinstance(vault.keys, KeyFile):
            raise CommandStop(
                "the vault's key is not in a key file, and only those can be rotated; give "
                "--key FILE",
                USAGE,
            )
        key = vault.keys.add()
        wrapped = vault.rewrap()
        if drop:
            vault.keys.keep_only(key.id)
    if out.is_terminal:
        out.console.print(f"Key {key.id} now encrypts {wrapped:,} data keys.")
    else:
        out.fields({"key": key.id, "wrapped": wrapped})


def list_keys(*, json: JsonOption = False) -> None:
    """List the subjects that have data keys, and which key encrypts each. No key is shown.

    A key of somebody who was forgotten was restored without Everwhen; it is marked as forgotten,
    and never used. Forget the subject again to destroy it.
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
        str | None, typer.Argument(metavar="[SUBJECT]", help="The id of the person.")
    ] = None,
    *,
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded",
            help="Forget again those whose erasure is recorded in the store but not in the vault.",
        ),
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it. Nobody can undo it.")] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="Also forget an id that has no keys, so that no personal data can be written "
            "for it.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Erase a person: show what would be destroyed, and with --apply destroy it for ever.

    Their keys are destroyed, and those of subjects below them (ann/…), so that nobody can read what
    was encrypted with them, in any copy. The events stay, with (erased) in place of that data.

    If a store records an erasure, it does not open with a vault from before it. If there is no
    newer vault, use --recorded in place of SUBJECT: it repeats on the vault what the store records.
    """
    out = Output(json=json)
    if recorded == (subject is not None):
        raise CommandStop(
            "nobody to forget is named, or --recorded as well; name a SUBJECT or give --recorded",
            USAGE,
        )
    if subject is None:
        _forget_recorded(store, out, apply=apply)
        return
    with existing(store, write=apply) as opened:
        vault = opened.vault
        if vault is None:
            raise CommandStop("no vault is named; name it: everwhen --vault FILE forget …", USAGE)
        check_subject(subject)
        if not apply:
            found, known = vault.subjects(subject), vault.is_forgotten(subject)
            if not found and not known:
                say(f"nobody called {subject!r} has keys in this vault; check the id")
            out.fields({"subject": subject, "keys_of": found, "forgotten": known})
            if out.is_terminal and (found or not known):
                out.console.print("Nothing was done yet; --apply does it, for ever.")
            return
        if not (unknown or vault.subjects(subject) or vault.is_forgotten(subject)):
            raise CommandStop(
                f"nobody called {subject!r} has keys in this vault, so nothing was done; check the "
                f"id, or forget it all the same with --unknown",
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
        out.console.print("Nothing was done yet; --apply does it, for ever.")


def _vault(command: str = "keys") -> Vault:
    vault = given_vault()
    if vault is None:
        raise CommandStop(f"no vault is named; name it: everwhen --vault FILE {command} …", USAGE)
    return vault
