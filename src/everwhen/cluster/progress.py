"""How far work on a replica has come."""

from __future__ import annotations

import msgspec


class ReplicaProgress(msgspec.Struct, frozen=True):
    """How far work on a replica has come with one stage: ``done`` of ``total``, in its messages.

    In the stages ``copying``, ``offering`` and ``fetching`` they are bytes.
    """

    stage: str
    done: int
    total: int | None
