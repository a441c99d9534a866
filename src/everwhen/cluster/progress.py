"""How far work on a replica has come."""

from __future__ import annotations

import msgspec


class ReplicaProgress(msgspec.Struct, frozen=True):
    """How far work on a replica has come with one stage: ``done`` of ``total``, in its messages.

    In the stage ``copying`` they are bytes.
    """

    stage: str
    done: int
    total: int | None
