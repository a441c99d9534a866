"""Decisions: from a command, and the states it rests on, to events. Pure.

    decisions = Decisions()

    @decisions.on(Withdraw, StateOf(account, lambda command: f"account-{command.account}"))
    def withdraw(command: Withdraw, account: Account) -> list[Event]:
        if account.balance < command.amount:
            raise InsufficientBalance(account.balance)
        return [Withdrawn(command.amount)]

A command is a value of any class that msgspec can encode: a frozen struct or dataclass. What it
demands of its own fields, it says in their types (``Annotated[int, Meta(gt=0)]``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, overload
from uuid import UUID

import msgspec

from everwhen.codec.commits import Write
from everwhen.codec.json_encoding import decode_json, encode_json, encode_shallow
from everwhen.codec.recorded_events import RecordedEvent, codec_of, commit_metadata, stored_slice
from everwhen.privacy.field_encryption import FieldEncryption
from everwhen.state.aggregate import Aggregate
from everwhen.state.fold import Fold
from everwhen.vocabulary.contract import MAX_DEPTH, Condition, StoredSlice
from everwhen.vocabulary.equality import holds_times_of_day, is_same, lost_zone
from everwhen.vocabulary.errors import (
    ConflictError,
    DeclarationError,
    InvalidCommandError,
    InvalidQueryError,
    TooDeepError,
)
from everwhen.vocabulary.personal_data import Fields, personal_fields
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import ANY, ExpectedVersion, holds
from everwhen.vocabulary.validation import check_plain

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
S = TypeVar("S")
S1 = TypeVar("S1")
S2 = TypeVar("S2")
S3 = TypeVar("S3")

COMMAND_EXTRA: Final = "command"
"""The key under which a commit's extras hold the command that it was decided on."""
_LEVELS_AROUND: Final = 2
"""In the extras, a command's data is in an object with its type, which is in that of the extras."""


class StateOf(Generic[C_contra, S]):
    """What a decision rests on: a fold's state, of the stream or the query a command leads to.

    Nothing may have changed it when the decision's events are written: a stream must still be at
    the version that was read, and nothing more may match a query. One serves many commands:
    ``StateOf[Deposit | Withdraw, Account]``, say, where both name the account.
    """

    def __init__(self, fold: Fold[S], of: Callable[[C_contra], Query | str]) -> None:
        if not isinstance(fold, Fold):
            raise DeclarationError(f"expected a Fold, got {fold!r}")
        if not callable(of):
            raise DeclarationError(
                f"fold {fold.name!r}: {of!r} can't be called; give a function from the command to "
                f"a stream's name or a query"
            )
        self.fold = fold
        self.of = of

    def where(self, command: C_contra) -> Query | str:
        """Where the state of a command lies. Raises `InvalidQueryError` for a query with bounds."""
        of = self.of(command)
        if isinstance(of, str) or (isinstance(of, Query) and of == Query(of.selectors)):
            return of
        raise InvalidQueryError(
            f"the state of fold {self.fold.name!r} is that of a stream, by its name, or of a query "
            f"without bounds, limit and direction; got {of!r}"
        )


class RecordedCommand(msgspec.Struct, frozen=True):
    """A command as it is kept with what was decided on it: a type name and plain data."""

    type: str
    data: Any


class Decision(msgspec.Struct, frozen=True):
    """How one type of command is decided on."""

    command: type[Any]
    name: str
    states: tuple[StateOf[Any, Any], ...]
    decide: Callable[..., Iterable[Any] | None]
    into: Callable[[Any], str] | None = None
    personal: Fields | None = None
    has_times: bool = False

    def events(self, command: Any, states: Sequence[Any]) -> list[Any]:
        """What is decided: events, or writes. Whatever the decision raises comes through."""
        decided = self.decide(command, *states)
        if decided is None:
            found = []
        elif isinstance(decided, Iterable) and not isinstance(decided, str | bytes | Mapping):
            found = list(decided)
        else:
            raise DeclarationError(
                f"the decision on {self.name} returned {decided!r}; let it return a list of "
                f"events, from a plain function"
            )
        for state in states:
            if isinstance(state, Aggregate):
                found += state.recorded_events()
        return found


def _check_kind(command: type[Any], name: str) -> None:
    """Raises `DeclarationError` for a class whose commands could be neither kept nor restored."""
    try:
        kind = msgspec.inspect.type_info(command)
    except Exception as error:
        raise DeclarationError(f"decision on {name}: {error}") from error
    if isinstance(kind, msgspec.inspect.CustomType):
        raise DeclarationError(
            f"decision on {name}: {command.__name__} can't be stored; make it an everwhen.Event, a "
            f"msgspec.Struct, a dataclass or an attrs class"
        )


class Decisions:
    """Which function decides on which type of command."""

    def __init__(self) -> None:
        self._by_class: dict[type[Any], Decision] = {}
        self._by_name: dict[str, Decision] = {}

    def __repr__(self) -> str:
        return f"Decisions({', '.join(self._by_name)})"

    @overload
    def on(
        self,
        command: type[C],
        first: StateOf[C, S1],
        /,
        *,
        into: Callable[[C], str] | None = None,
    ) -> Callable[[Callable[[C, S1], Any]], Callable[[C, S1], Any]]: ...
    @overload
    def on(
        self,
        command: type[C],
        first: StateOf[C, S1],
        second: StateOf[C, S2],
        /,
        *,
        into: Callable[[C], str] | None = None,
    ) -> Callable[[Callable[[C, S1, S2], Any]], Callable[[C, S1, S2], Any]]: ...
    @overload
    def on(
        self,
        command: type[C],
        first: StateOf[C, S1],
        second: StateOf[C, S2],
        third: StateOf[C, S3],
        /,
        *,
        into: Callable[[C], str] | None = None,
    ) -> Callable[[Callable[[C, S1, S2, S3], Any]], Callable[[C, S1, S2, S3], Any]]: ...
    @overload
    def on(
        self,
        command: type[C],
        /,
        *states: StateOf[C, Any],
        into: Callable[[C], str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...

    def on(
        self,
        command: type[Any],
        /,
        *states: StateOf[Any, Any],
        into: Callable[[Any], str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare how a type of command is decided on, and the states that it rests on.

        The function is given the command and those states. It returns events, and raises a
        `Refusal` to say no. It must be pure: it is called again when somebody else was faster.

        The events are written to the stream that ``into`` names for the command; unless given,
        to the first state's stream. A `Write` in their place says its own.
        """
        if not isinstance(command, type):
            raise DeclarationError(f"expected a class of commands, got {command!r}")
        declared = vars(command).get("type_name")
        name = declared if isinstance(declared, str) else command.__name__
        if name in self._by_name:
            raise DeclarationError(f"there are two decisions on {name}; keep one")
        for state in states:
            if not isinstance(state, StateOf):
                raise DeclarationError(f"decision on {name}: {state!r}; give a StateOf")

        _check_kind(command, name)

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            check_plain(function, f"decision on {name}")
            personal = personal_fields(command)
            times = holds_times_of_day(command)
            decision = Decision(command, name, states, function, into, personal, times)
            self._by_class[command] = self._by_name[name] = decision
            return function

        return declare

    def include(self, others: Decisions) -> None:
        """Take in another module's decisions."""
        for name, decision in others._by_name.items():
            if name in self._by_name:
                raise DeclarationError(f"there are two decisions on {name}; keep one")
            self._by_class[decision.command] = self._by_name[name] = decision

    @property
    def classes(self) -> dict[str, type[Any]]:
        """The classes of commands that something decides on, by name."""
        return {name: decision.command for name, decision in self._by_name.items()}

    def for_command(self, command: Any) -> Decision:
        """The decision on a command. Raises `InvalidCommandError` where there is none."""
        decision = self._by_class.get(type(command))
        if decision is None:
            raise InvalidCommandError(
                f"nothing decides on {type(command).__name__}; declare a function with "
                f"@decisions.on({type(command).__name__}, …){self._known()}"
            )
        return decision

    def recorded(self, command: Any) -> RecordedCommand:
        """The command as plain data, proven valid.

        Raises `InvalidCommandError` for one that breaks a rule of its type, that can't be stored,
        or that would come back changed.
        """
        decision = self.for_command(command)
        try:
            data = decode_json(encode_shallow(command, MAX_DEPTH - _LEVELS_AROUND))
            back = msgspec.convert(data, decision.command, str_keys=True)
        except TooDeepError as error:
            raise InvalidCommandError(f"{decision.name}: {error}") from error
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            shown = repr(command) if decision.personal is None else "what is not shown here"
            raise InvalidCommandError(f"{decision.name}: {error}; got {shown}") from error
        comes_back = back == command or is_same(command, back)
        lost = lost_zone(command) if decision.has_times or not comes_back else None
        if not comes_back or lost is not None:
            types = "give its fields the exact types"
            changed = lost or f"{command!r} would read back as {back!r}; {types}"
            if decision.personal is not None:
                changed = f"it would read back changed; {types}"
            raise InvalidCommandError(f"{decision.name}: {changed}")
        return RecordedCommand(decision.name, data)

    def restored(self, recorded: RecordedCommand) -> Any:
        """The command that was recorded.

        Raises `InvalidCommandError` for a type that nothing decides on, or data that doesn't fit.
        """
        decision = self._by_name.get(recorded.type)
        if decision is None:
            raise InvalidCommandError(f"nothing decides on {recorded.type!r}{self._known()}")
        try:
            return msgspec.convert(recorded.data, decision.command, str_keys=True)
        except msgspec.ValidationError as error:
            raise InvalidCommandError(f"{recorded.type}: {error}") from error

    def with_personal_data(self) -> list[str]:
        """The names of the commands that have personal fields."""
        return sorted(name for name, d in self._by_name.items() if d.personal is not None)

    def encrypted(
        self, recorded: RecordedCommand, own_id: str, encryption: FieldEncryption
    ) -> RecordedCommand:
        """A recorded command as it is kept, its personal fields encrypted for the place of that id.

        Raises `ErasedSubjectError`.
        """
        personal = self._by_name[recorded.type].personal
        if personal is None:
            return recorded
        data = encode_json(recorded.data)
        stored = encryption.encryptor().data(
            recorded.type, _COMMAND_VERSION, own_id, data, personal
        )
        return RecordedCommand(recorded.type, decode_json(stored))

    def _known(self) -> str:
        return f" (known: {', '.join(sorted(self._by_name))})" if self._by_name else ""


def command_of(event: RecordedEvent[Any]) -> RecordedCommand | None:
    """The command that an event was decided on; None for one that no command led to.

    Raises `SealedError` where personal data in it can't be decrypted.
    """
    return recorded_with(stored_slice(event), codec_of(event).encryption)


def recorded_with(
    stored: StoredSlice, encryption: FieldEncryption | None
) -> RecordedCommand | None:
    """The command that was recorded with a slice's commit."""
    recorded = _command_in(commit_metadata(stored).extras)
    if recorded is None or encryption is None:
        return recorded
    return decrypted_command(recorded, command_place(UUID(bytes=stored.commit_id)), encryption)


def decrypted_command(
    recorded: RecordedCommand, own_id: str, encryption: FieldEncryption, *, marked: bool = False
) -> RecordedCommand:
    """A command that was kept in the place of that id, with its personal fields decrypted."""
    data = encode_json(recorded.data)
    shown = encryption.decryptor.data(recorded.type, _COMMAND_VERSION, own_id, data, marked=marked)
    return recorded if shown is data else RecordedCommand(recorded.type, decode_json(shown))


def command_place(commit_id: UUID) -> str:
    """What a commit's command is known by where it is encrypted."""
    return f"{commit_id}/command"


def moved_command(
    extras: Mapping[str, Any], old_id: UUID, new_id: UUID, encryption: FieldEncryption
) -> dict[str, Any]:
    """A commit's extras for another commit, the command in them encrypted for its new place."""
    return encrypted_command(shown_command(extras, old_id, encryption), new_id, encryption)


def shown_command(
    extras: Mapping[str, Any], commit_id: UUID, encryption: FieldEncryption
) -> dict[str, Any]:
    """A commit's extras with what is personal in the command decrypted, and marked.

    Raises `SealedError`.
    """
    recorded = _command_in(extras)
    if recorded is None:
        return dict(extras)
    decrypted = decrypted_command(recorded, command_place(commit_id), encryption, marked=True)
    return {**extras, COMMAND_EXTRA: {**extras[COMMAND_EXTRA], "data": decrypted.data}}


def encrypted_command(
    extras: Mapping[str, Any], commit_id: UUID, encryption: FieldEncryption
) -> dict[str, Any]:
    """A commit's extras with what is marked as personal in the command encrypted.

    Raises `ErasedSubjectError`.
    """
    recorded = _command_in(extras)
    if recorded is None:
        return dict(extras)
    place = command_place(commit_id)
    data = encryption.encryptor().marked(
        recorded.type, _COMMAND_VERSION, place, encode_json(recorded.data)
    )
    return {**extras, COMMAND_EXTRA: {**extras[COMMAND_EXTRA], "data": decode_json(data)}}


def _command_in(extras: Mapping[str, Any]) -> RecordedCommand | None:
    extra = extras.get(COMMAND_EXTRA)
    try:
        return None if extra is None else msgspec.convert(extra, RecordedCommand)
    except msgspec.ValidationError:
        return None


_COMMAND_VERSION: Final = 0
"""The schema version under which commands are encrypted: events' begin at 1."""


class Belief(msgspec.Struct, frozen=True):
    """Where a state that a decision rests on was read: a stream's version, or a query's end."""

    of: Query | str
    at: int


def writes_of(
    decision: Decision, command: Any, decided: Sequence[Any], beliefs: Sequence[Belief]
) -> tuple[list[Write], Condition | None]:
    """The writes and the condition of a commit for what was decided, in the order it came.

    Raises `DeclarationError` for events that no stream is known for.
    """
    versions: dict[str, int] = {}
    for belief in beliefs:
        if isinstance(belief.of, str):  # of two folds over one stream, the older belief binds
            versions[belief.of] = min(belief.at, versions.get(belief.of, belief.at))
    expected: dict[str, ExpectedVersion] = dict(versions)
    events: dict[str, list[Any]] = {}
    into = beliefs[0].of if beliefs else None
    if decision.into is not None:
        into = decision.into(command)
    for event in decided:
        if isinstance(event, Write):
            _believe(expected, versions, event)
            if not isinstance(event.events, Sequence) or isinstance(event.events, str | bytes):
                raise DeclarationError(f"{decision.name}: {event!r}; give its events as a list")
            events.setdefault(event.stream, []).extend(event.events)
        elif isinstance(into, str):
            events.setdefault(into, []).append(event)
        else:
            raise DeclarationError(
                f"{decision.name}: no stream is known for {event!r}; say it by into=…, let the "
                f"first StateOf lead to one, or return Write(stream, events)"
            )
    for guarded in expected:
        events.setdefault(guarded, [])
    writes = [Write(stream, found, expected.get(stream, ANY)) for stream, found in events.items()]
    return writes, _condition([b for b in beliefs if isinstance(b.of, Query)])


def _believe(
    expected: dict[str, ExpectedVersion], versions: Mapping[str, int], write: Write
) -> None:
    """Take in what a decision itself expects of a stream, beside where its state was read.

    Raises `ConflictError` where it can't be, and `DeclarationError` for two beliefs about one.
    """
    stream, belief = write.stream, write.expected
    if belief is ANY:
        return
    if stream in versions:
        if not holds(belief, versions[stream]):
            raise ConflictError(stream, belief, versions[stream])
    elif expected.setdefault(stream, belief) != belief:
        raise DeclarationError(
            f"stream {stream!r} is expected to be at {expected[stream]} and at {belief}; keep one"
        )


def _condition(beliefs: Sequence[Belief]) -> Condition | None:
    if not beliefs:
        return None
    selectors = tuple(s for b in beliefs if isinstance(b.of, Query) for s in b.of.selectors)
    return Condition(Query(selectors), min(belief.at for belief in beliefs))


def extras_with(
    recorded: RecordedCommand, extras: Mapping[str, Any], beside: int = 0
) -> dict[str, Any]:
    """A commit's extras, with the command that it was decided on.

    ``beside`` counts the events at the commit's end that weren't decided, but go along with it.
    """
    if COMMAND_EXTRA in extras:
        raise InvalidCommandError(
            f"metadata extras: {COMMAND_EXTRA!r} is where the command is kept; name yours otherwise"
        )
    kept: dict[str, Any] = {"type": recorded.type, "data": recorded.data}
    if beside:
        kept["beside"] = beside
    return {**extras, COMMAND_EXTRA: kept}


def beside_of(stored: StoredSlice) -> int:
    """How many events at the end of a slice's commit go along with what was decided."""
    extra = commit_metadata(stored).extras.get(COMMAND_EXTRA)
    beside = extra.get("beside", 0) if isinstance(extra, dict) else 0
    return beside if type(beside) is int else 0
