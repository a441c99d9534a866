"""What goes over the wire between a client and a server: MessagePack of these values.

Each request is a POST. ``reads`` takes one of the ``Ask…``, and answers with what ``ANSWERS``
says; ``commits`` takes `CommitMessage`s and answers with an `OutcomeMessage` for each; ``changes``
takes a `ChangesMessage` and answers whether what it expected was so, and it took effect;
``branches`` takes a `BranchChange`, ``purges`` whether it is only tried out: both answer nothing.

Whoever receives one checks what it says: that it decodes only means that the types are right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from everwhen.backends.branch_records import BranchInfo
from everwhen.backends.outcome_messages import ErrorMessage, OutcomeMessage
from everwhen.codec.blocks import SliceFields
from everwhen.vocabulary.contract import (
    MAX_KEPT_BYTES,
    MAX_STORED_BYTES,
    Capabilities,
    Checkpoint,
    Head,
    Snapshot,
    SnapshotInfo,
    StreamInfo,
)
from everwhen.vocabulary.query import Query, Selector
from everwhen.vocabulary.streams import Expected

PROTOCOL: Final = 1
"""Raised when old clients and new servers would no longer understand each other."""
MEDIA: Final = "application/msgpack"
MAX_ASKED_BYTES: Final = 4 << 20
"""Of a request that reads: room for a query of many thousand names."""
MAX_COMMITS_BYTES: Final = 2 * MAX_STORED_BYTES
"""Of a request that writes: the largest slice fits, with others beside it."""
MAX_CHANGES_BYTES: Final = MAX_KEPT_BYTES + MAX_ASKED_BYTES
"""The largest checkpoint or snapshot fits."""
MAX_ANSWER_BYTES: Final = 2 * MAX_KEPT_BYTES
PAGE_BYTES: Final = 16 << 20
"""A page ends after the slice with which it gets this large."""
MAX_LISTED: Final = 1_000
"""How many streams, snapshots or commits are in one message at most."""
MAX_WAIT_SECONDS: Final = 5.0
"""How long a server waits for news before it answers that there is none: so long may it take to
stop, too."""


class CommitMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A commit. A slice is its stream and its body: count, types and tags are in the body."""

    id: bytes
    slices: list[tuple[str, bytes]]
    expected: list[tuple[str, int | Expected]] = []
    condition: tuple[tuple[Selector, ...], int] | None = None
    metadata: bytes | None = None
    recorded_at: int | None = None


class Greeting(msgspec.Struct, frozen=True):
    """Who answers: the protocol that it speaks, and what the store behind it does.

    ``most_bytes`` is how long a request may be.
    """

    protocol: int
    capabilities: Capabilities
    most_bytes: int
    branch: BranchInfo | None = None


class PageMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `Page`."""

    slices: list[SliceFields]
    cursor: int
    end: bool


class _Asked(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag_field="ask"
):
    """One question."""


class AskGreeting(_Asked, frozen=True, tag="greeting"):
    """The first question."""


class AskPage(_Asked, frozen=True, tag="page"):
    """`EngineLog.read`."""

    query: Query
    events: int


class AskCommit(_Asked, frozen=True, tag="commit"):
    """`EngineLog.stored_commit`."""

    id: bytes


class AskHead(_Asked, frozen=True, tag="head"):
    """`EngineLog.head`; waits up to ``seconds`` for one after the position ``after``."""

    after: int | None = None
    seconds: float = 0.0


class AskPosition(_Asked, frozen=True, tag="position"):
    """`EngineLog.position_at`."""

    recorded_at: int


class AskStream(_Asked, frozen=True, tag="stream"):
    """`EngineLog.stream`."""

    name: str


class AskStreams(_Asked, frozen=True, tag="streams"):
    """`EngineLog.streams`."""

    category: str | None
    after: str
    limit: int


class AskCheckpoint(_Asked, frozen=True, tag="checkpoint"):
    """`EngineView.checkpoint`."""

    name: str


class AskCheckpoints(_Asked, frozen=True, tag="checkpoints"):
    """`EngineView.checkpoints`."""

    prefix: str


class AskSnapshots(_Asked, frozen=True, tag="snapshots"):
    """`EngineState.snapshots`; there may be more than are given, unless none is."""

    subject: str
    up_to: int | None
    limit: int


class AskSnapshotsAfter(_Asked, frozen=True, tag="snapshots-after"):
    """`EngineState.snapshots_after`."""

    subject: str
    position: int
    limit: int


class Seen(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What was read: the checkpoint of a name, or all whose names begin with a text; its digest."""

    kind: Literal["name", "prefix"]
    text: str
    digest: bytes


class AskBranches(_Asked, frozen=True, tag="branches"):
    """`BranchServer.branches`."""


class AskUnchanged(_Asked, frozen=True, tag="unchanged"):
    """Whether all of that is so at this moment."""

    seen: list[Seen]


Ask: TypeAlias = (
    AskGreeting
    | AskPage
    | AskCommit
    | AskHead
    | AskPosition
    | AskStream
    | AskStreams
    | AskCheckpoint
    | AskCheckpoints
    | AskSnapshots
    | AskSnapshotsAfter
    | AskBranches
    | AskUnchanged
)

ANSWERS: Final[Mapping[type, Any]] = {
    AskGreeting: Greeting,
    AskPage: PageMessage,
    AskCommit: list[SliceFields],
    AskHead: Head,
    AskPosition: int,
    AskStream: StreamInfo | None,
    AskStreams: list[StreamInfo],
    AskCheckpoint: Checkpoint | None,
    AskCheckpoints: list[Checkpoint],
    AskSnapshots: list[Snapshot],
    AskSnapshotsAfter: list[SnapshotInfo],
    AskBranches: list[BranchInfo],
    AskUnchanged: bool,
}


class _Change(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One change beside the log."""


class SaveCheckpoint(_Change, frozen=True, tag="save-checkpoint"):
    """`EngineTransaction.save_checkpoint`."""

    checkpoint: Checkpoint
    local: bool


class DeleteCheckpoint(_Change, frozen=True, tag="delete-checkpoint"):
    """`EngineTransaction.delete_checkpoint`."""

    name: str
    local: bool


class SaveSnapshot(_Change, frozen=True, tag="save-snapshot"):
    """`EngineTransaction.save_snapshot`."""

    snapshot: Snapshot


class DeleteSnapshots(_Change, frozen=True, tag="delete-snapshots"):
    """`EngineTransaction.delete_snapshots`."""

    subject: str
    positions: list[int] | None


SideChange: TypeAlias = SaveCheckpoint | DeleteCheckpoint | SaveSnapshot | DeleteSnapshots


class ChangesMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Changes that take effect together, if what was seen is still so; else none does."""

    seen: list[Seen]
    changes: list[SideChange]


class CreateBranch(_Change, frozen=True, tag="create-branch"):
    """`BranchServer.create_branch`, of the branch that the request is about."""

    name: str
    position: int


class RenameBranch(_Change, frozen=True, tag="rename-branch"):
    """`BranchServer.rename_branch`."""

    name: str
    new_name: str


class DeleteBranch(_Change, frozen=True, tag="delete-branch"):
    """`BranchServer.delete_branch`."""

    name: str
    with_children: bool


BranchChange: TypeAlias = CreateBranch | RenameBranch | DeleteBranch

encode_message: Final = msgspec.msgpack.Encoder().encode
decode_ask: Final = msgspec.msgpack.Decoder(Ask).decode
decode_commits: Final = msgspec.msgpack.Decoder(list[CommitMessage]).decode
decode_outcomes: Final = msgspec.msgpack.Decoder(list[OutcomeMessage]).decode
decode_changes: Final = msgspec.msgpack.Decoder(ChangesMessage).decode
decode_branch_change: Final = msgspec.msgpack.Decoder(BranchChange).decode
decode_switch: Final = msgspec.msgpack.Decoder(bool).decode
decode_error: Final = msgspec.msgpack.Decoder(ErrorMessage).decode
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises where the bytes are no such message."""


def digest_of(seen: Checkpoint | list[Checkpoint] | None) -> bytes:
    """What tells whether a checkpoint, or a list of them, is still the same."""
    return hashlib.sha256(encode_message(seen)).digest()
