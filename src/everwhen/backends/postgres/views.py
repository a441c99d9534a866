"""What work inside a transaction is given: a look at one moment, and a transaction that writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from everwhen.backends.postgres import lookups
from everwhen.backends.postgres.dialect import DIALECT
from everwhen.backends.postgres.error_translation import translated
from everwhen.backends.postgres.page_statements import findable
from everwhen.backends.postgres.pages import read_page
from everwhen.backends.postgres.sealed_bodies import SealedBodies
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.backends.postgres.stored_rows import KnownStreams
from everwhen.backends.postgres.user_statements import executed, streamed
from everwhen.vocabulary.contract import Checkpoint, Page, Snapshot
from everwhen.vocabulary.query import Query


class PostgresView:
    """A session inside a transaction, so that all it reads is of one moment."""

    dialect = DIALECT

    def __init__(
        self,
        session: PostgresSession,
        schema: str,
        place: str,
        bodies: SealedBodies,
        streams: KnownStreams | None = None,
    ) -> None:
        self._session = session
        self._schema = schema
        self._place = place
        self._bodies = bodies
        self._streams = streams or KnownStreams()

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return executed(self._session, sql, parameters, self._place)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return streamed(self._session, sql, self._place)

    def checkpoint(self, name: str) -> Checkpoint | None:
        with translated(self._place):
            return lookups.checkpoint(self._session, self._schema, name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        with translated(self._place):
            return lookups.checkpoints(self._session, self._schema, prefix)

    def read(self, query: Query, events: int) -> Page:
        with translated(self._place):
            return read_page(
                self._session, self._schema, query, events, self._bodies, self._streams
            )


class PostgresTransaction(PostgresView):
    """The writer's session, inside a transaction."""

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The checkpoint; nobody else gets to change it until the transaction ends.

        Without that lock two runners would read the same one, and both write what follows on it.
        """
        with translated(self._place):
            self._run("lock_checkpoint", findable(name))
            return lookups.checkpoint(self._session, self._schema, name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        """Those whose names begin so; who else asks for some in a transaction waits for this one.

        What is registered under such names, as branches are, is looked at before it is changed.
        """
        self._run("lock_registry")
        return super().checkpoints(prefix)

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        del local  # there is one replica
        self._run("save_checkpoint", checkpoint.name, checkpoint.position, checkpoint.data)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        del local
        self._run("delete_checkpoint", findable(name))

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._run(
            "save_snapshot",
            snapshot.subject,
            snapshot.position,
            snapshot.fold,
            snapshot.fold_version,
            snapshot.state,
        )

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        if positions is None:
            self._run("delete_snapshots_of_subject", findable(subject))
        elif positions:
            self._run("delete_snapshots", findable(subject), list(positions))

    def _run(self, statement: str, *bounds: object) -> None:
        with translated(self._place):
            self._session.execute(statements("writing", self._schema)[statement], bounds)
