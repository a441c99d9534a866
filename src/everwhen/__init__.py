"""Everwhen: every state your data ever had. The sync flavour; `everwhen.aio` is the async one."""

from everwhen._sync.backend import Backend, Transaction
from everwhen._sync.embedded import EmbeddedBackend
from everwhen._sync.exporting import export_events
from everwhen._sync.importing import import_events
from everwhen._sync.store import Store, open_store
from everwhen._sync.subscription import Subscription
from everwhen.clock import Clock, system_clock
from everwhen.codec import CodecStep, EventTypes
from everwhen.commits import Commit, Write
from everwhen.contract import (
    ANY,
    EXISTS,
    NO_STREAM,
    Capabilities,
    Checkpoint,
    Condition,
    Expected,
    ExpectedVersion,
    Head,
    Problem,
    Receipt,
    Snapshot,
    StreamInfo,
)
from everwhen.errors import (
    BatchError,
    BusyError,
    CommitIdError,
    ConditionError,
    ConflictError,
    CorruptStoreError,
    DeclarationError,
    DecodeError,
    EverwhenError,
    InvalidCommitError,
    InvalidEventError,
    InvalidQueryError,
    NewerStoreError,
    NotAStoreError,
    ReadOnlyError,
    RefusedError,
    StorageError,
    StorageFullError,
    StoreClosedError,
    UnsupportedError,
)
from everwhen.events import Event, EventType, NewEvent, UnknownEvent
from everwhen.fold import Document, Fold, documents
from everwhen.metadata import CommitMetadata, causation, context
from everwhen.query import Query, Selector
from everwhen.recorded import Metadata, RecordedEvent
from everwhen.upcasting import Upcast

__all__ = [
    "ANY",
    "EXISTS",
    "NO_STREAM",
    "Backend",
    "BatchError",
    "BusyError",
    "Capabilities",
    "Checkpoint",
    "Clock",
    "CodecStep",
    "Commit",
    "CommitIdError",
    "CommitMetadata",
    "Condition",
    "ConditionError",
    "ConflictError",
    "CorruptStoreError",
    "DeclarationError",
    "DecodeError",
    "Document",
    "EmbeddedBackend",
    "Event",
    "EventType",
    "EventTypes",
    "EverwhenError",
    "Expected",
    "ExpectedVersion",
    "Fold",
    "Head",
    "InvalidCommitError",
    "InvalidEventError",
    "InvalidQueryError",
    "Metadata",
    "NewEvent",
    "NewerStoreError",
    "NotAStoreError",
    "Problem",
    "Query",
    "ReadOnlyError",
    "Receipt",
    "RecordedEvent",
    "RefusedError",
    "Selector",
    "Snapshot",
    "StorageError",
    "StorageFullError",
    "Store",
    "StoreClosedError",
    "StreamInfo",
    "Subscription",
    "Transaction",
    "UnknownEvent",
    "UnsupportedError",
    "Upcast",
    "Write",
    "causation",
    "context",
    "documents",
    "export_events",
    "import_events",
    "open_store",
    "system_clock",
]
