"""What can be typed at ``(timedb)``: each command, its short names, and what it does."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from everwhen.cli.debugger.answers import Answers
from everwhen.cli.local_time import given_moment_of
from everwhen.debugging import Session, Stop, Trigger, break_of, watch_of
from everwhen.debugging.session import Which
from everwhen.errors import ExpressionError, InvalidQueryError
from everwhen.exchange.travel_forms import BlameEntry
from everwhen.expressions import Expression
from everwhen.state.paths import value_at
from everwhen.travel import Moment

_WRITES: Final = 30
_AROUND: Final = 5
_WHICH: Final[dict[str, Which]] = {
    "first": "first",
    "last": "last",
    "next": "next",
    "previous": "previous",
    "prev": "previous",
}


class QuitError(Exception):
    """The session is over."""


class NothingFoundError(Exception):
    """What was searched for does not exist."""


class Command(msgspec.Struct, frozen=True):
    """A command: its name, short names, what follows it, and what it does."""

    name: str
    short: tuple[str, ...]
    follows: str
    run: Callable[[Commands, str], None]
    completes: str = ""
    moves: bool = False

    @property
    def help(self) -> str:
        """What it does."""
        return " ".join((self.run.__doc__ or "").split())


class Commands:
    """Runs what people type on a session, and answers with what comes of it."""

    def __init__(self, session: Session, answers: Answers, about: dict[str, object]) -> None:
        self.session = session
        self.answers = answers
        self.about = about
        self.last_movement = ""

    def run(self, line: str) -> None:
        """Run one line; an empty one repeats the last movement.

        Raises `QuitError`, `NothingFoundError`, and what the session raises.
        """
        words = line.strip() or self.last_movement
        if not words or words.startswith("#"):
            return
        name, _, rest = words.partition(" ")
        if "/" in name:  # as in x/FMT: of no use here
            name = name.partition("/")[0]
        command = command_of(name)
        if command.moves:
            self.last_movement = words
        command.run(self, rest.strip())
        self.answers.end(words)

    def begin(self, moment: Moment) -> None:
        """Go where the session begins, and show it."""
        self.arrive(self.session.start(moment))

    def arrive(self, stop: Stop | None, missing: str = "") -> None:
        """Show where a movement ended. Raises `NothingFoundError` where it found nothing."""
        if stop is None:
            raise NothingFoundError(missing)
        self.answers.stop(stop, self.session.event)
        step = self.session.step_here
        if step is not None and stop.reason != "entry":
            self.answers.changes(step.changes)

    def step(self, rest: str) -> None:
        """Go one event forward, or N."""
        self.arrive(self.session.step(_count(rest)))

    def back(self, rest: str) -> None:
        """Go one event back, or N."""
        if rest and not rest.isdecimal():
            raise InvalidQueryError(
                f"{rest!r} is not a number of events; b means back here, and break {rest} (or br) "
                f"sets a breakpoint"
            )
        self.arrive(self.session.back(_count(rest)))

    def goto(self, rest: str) -> None:
        """Go to a moment.

        That is a position, a time, v12, order-3@12, @bookmark, start, head, '5 back', '2h before' …
        """
        self.arrive(self.session.goto(self._moment(rest, "goto")))

    def resume(self, rest: str) -> None:
        """Go forward to the next breakpoint or watch, or to the newest event."""
        _nothing(rest, "continue")
        self.arrive(self.session.resume())

    def reverse(self, rest: str) -> None:
        """Go back to the last breakpoint or watch before here, or to the start."""
        _nothing(rest, "rcontinue")
        self.arrive(self.session.reverse())

    def break_(self, rest: str) -> None:
        """Stop at events or states, or list the breakpoints.

        As in 'break BetPlaced', 'break game-7', 'break BetPlaced if event.amount > 5', 'break if
        total > 100', 'break unless total >= 0'. A condition on the state alone stops where it
        begins to hold. break list, delete, disable and enable take numbers.
        """
        word, _, more = rest.partition(" ")
        if not rest or rest == "list":
            self._list_breakpoints()
        elif word in ("delete", "disable", "enable"):
            _BY_NAME[word].run(self, more)
        else:
            self._add(break_of(rest, self.session.machine))

    def watch(self, rest: str) -> None:
        """Stop where a part of the state changes, or the value of an expression over it."""
        self._add(watch_of(_given(rest, "watch PATH or EXPRESSION")))

    def delete(self, rest: str) -> None:
        """Delete breakpoints and watches by number; without a number, all of them."""
        if not rest:
            self.session.breakpoints.clear()
        for number in self._numbers(rest):
            self.session.breakpoints.delete(number)

    def disable(self, rest: str) -> None:
        """Disable breakpoints by number, or all, until they are enabled again."""
        self._enable(rest, is_enabled=False)

    def enable(self, rest: str) -> None:
        """Enable breakpoints that were disabled, by number, or all."""
        self._enable(rest, is_enabled=True)

    def last(self, rest: str) -> None:
        """Go back to the event that last changed a part of the state before here."""
        path = _given(rest, "last PATH")
        self._arrive_or_say(
            self.session.last_write(path), f"nothing before here changed {path}", path
        )

    def next(self, rest: str) -> None:
        """Go to the next event that changes a part of the state; without a part, to the next."""
        if not rest:
            self.arrive(self.session.step())
        else:
            self._arrive_or_say(
                self.session.next_write(rest), f"nothing after here changes {rest}", rest
            )

    def find(self, rest: str) -> None:
        """Go to the first moment at which a condition holds.

        As in 'find total > 100'; find last, find next and find previous go to other moments. A
        condition on events, such as 'find event.amount > 50', finds an event.
        """
        which, text = _which(_given(rest, "find CONDITION"))
        expression = Expression(text)
        stop = self.session.find(expression, which)
        self._arrive_or_say(stop, f"there is no such moment: {text}", expression)

    def print_(self, rest: str) -> None:
        """Show the state here, a part of it, or the value of an expression.

        A part is given by its path. An expression also sees before, event and recorded.
        """
        self.answers.value(self.session.evaluate(rest))

    def diff(self, rest: str) -> None:
        """Show what the event here changed, or what differs between moments.

        With one moment, between it and here; with two, as in 'diff 10 20', 'diff "2h ago" head' or
        'diff 2h ago .. head', between them.
        """
        if not rest:
            step = self.session.step_here
            self.answers.changes(step.changes if step is not None else (), whole=True)
            return
        moments = _moments(rest)
        found = self.session.diff(*(self._moment(moment, "diff") for moment in moments))
        self.answers.changes(found, whole=True)

    def event(self, rest: str) -> None:
        """Show the event here with its metadata."""
        _nothing(rest, "event")
        event = self.session.event
        if event is None:
            raise NothingFoundError("there is no event here; step to the first one")
        self.answers.event(event)

    def why(self, rest: str) -> None:
        """Show what caused the event here, and what it caused."""
        _nothing(rest, "why")
        explanation = self.session.explain()
        if explanation is None:
            raise NothingFoundError("there is no event here; step to the first one")
        self.answers.explanation(explanation)

    def list_(self, rest: str) -> None:
        """List the events around here, N to each side."""
        number = _count(rest, _AROUND)
        events, _ = self.session.around(number, number)
        self.answers.around(events, self.session.position)

    def blame(self, rest: str) -> None:
        """Show which event last wrote each field of the state here, or of a part of it."""
        state = self.session.state
        found = self.session.blame(rest)
        entries = (BlameEntry(leaf, value_at(state, leaf), event) for leaf, event in found.items())
        self.answers.blame(entries)

    def history(self, rest: str) -> None:
        """List the values that a part of the state has had up to here; the newest comes last."""
        path = _given(rest, "history PATH")
        count, latest = 0, deque[Any](maxlen=_WRITES)
        for written in self.session.history(path):
            if written.position > self.session.position:
                break
            count += 1
            latest.append(written)
        if not count:
            raise NothingFoundError(self._with_unknown(f"no event up to here wrote {path}", path))
        self.answers.history(latest, count - len(latest))

    def undo(self, rest: str) -> None:
        """Show what undoing the event here would do.

        That is: what it would append, and how the state would differ now if it had not happened.
        Nothing is written.
        """
        _nothing(rest, "undo")
        if self.session.event is None:
            raise NothingFoundError("there is no event here to undo; step to one")
        if self.session.compensations is not None:
            self.answers.say("undoing it now would append:")
            self.answers.plan(self.session.undo_plan(), self.session.store.event_types)
        else:
            self.answers.say("to see what undoing it would append, give --compensations", "dim")
        if_not = self.session.what_if()
        changes = if_not.changes if if_not is not None else ()
        if changes:
            self.answers.say("without it, the state now would differ in:")
            self.answers.changes(changes)
        else:
            self.answers.say("without it, the state now would be the same")

    def branch(self, rest: str) -> None:
        """Create a branch that forks off here; without a name, list the branches."""
        if not rest:
            self.answers.branches(self.session.store.branches())
        else:
            self.answers.forked(self.session.create_branch(rest))

    def bookmark(self, rest: str) -> None:
        """Give this position a name, for goto @NAME; without a name, list them; delete NAME."""
        word, _, more = rest.partition(" ")
        if not rest:
            self.answers.bookmarks(sorted(self.session.machine.bookmarks().items()))
        elif word == "delete" and more:
            self.session.delete_bookmark(more.strip().removeprefix("@"))
        else:
            name = rest.removeprefix("@")
            before = self.session.machine.bookmarks().get(name)
            position = self.session.set_bookmark(name)
            self.answers.bookmarked(name, position)
            if before is not None and before != position:
                self.answers.say(f"it was position {before:,} before", "yellow")

    def info(self, rest: str) -> None:
        """Show what is being debugged, the position, and the breakpoints."""
        _nothing(rest, "info")
        session = self.session
        about = self.about | {"fold": session.machine.fold.name}
        self.answers.info(about, session.position, session.head)
        self.answers.breakpoints(session.breakpoints)

    def help(self, rest: str) -> None:
        """Explain the commands, or one of them."""
        if rest:
            command = command_of(rest)
            self.answers.say(f"{_names(command)} {command.follows}".rstrip(), "bold")
            self.answers.say(f"  {command.help}")
            return
        self.answers.commands(
            [
                (_names(one), one.follows, (one.run.__doc__ or "").partition("\n")[0])
                for one in COMMANDS
            ]
        )

    def quit(self, rest: str) -> None:
        """End the session."""
        _nothing(rest, "quit")
        raise QuitError

    def _add(self, trigger: Trigger) -> None:
        """Stop there from now on; that it names what never was is said."""
        self.answers.added(self.session.breakpoints.add(trigger))
        for part in self.session.unknown(trigger):
            self.answers.say(str(part), "yellow")

    def _arrive_or_say(self, stop: Stop | None, missing: str, asked: Expression | str) -> None:
        self.arrive(stop, "" if stop is not None else self._with_unknown(missing, asked))

    def _with_unknown(self, missing: str, asked: Expression | str) -> str:
        return "; ".join([missing, *map(str, self.session.unknown(asked))])

    def _list_breakpoints(self) -> None:
        if not len(self.session.breakpoints):
            self.answers.say("there are no breakpoints; break TYPE sets one", "dim")
        self.answers.breakpoints(self.session.breakpoints)

    def _moment(self, text: str, command: str) -> Moment:
        return given_moment_of(_given(text, f"{command} MOMENT"))

    def _numbers(self, rest: str) -> list[int]:
        found = []
        for word in rest.replace(",", " ").split():
            if not word.isdecimal():
                raise InvalidQueryError(
                    f"{word!r} is not the number of a breakpoint; see break list"
                )
            found.append(self.session.breakpoints[int(word)].number)
        return found

    def _enable(self, rest: str, *, is_enabled: bool) -> None:
        numbers = self._numbers(rest) if rest else [one.number for one in self.session.breakpoints]
        for number in numbers:
            self.session.breakpoints[number].is_enabled = is_enabled


COMMANDS: Final = (
    Command("step", ("s",), "[N]", Commands.step, moves=True),
    Command("back", ("b",), "[N]", Commands.back, moves=True),
    Command("goto", ("g",), "MOMENT", Commands.goto, "moment"),
    Command("continue", ("c",), "", Commands.resume, moves=True),
    Command("rcontinue", ("rc",), "", Commands.reverse, moves=True),
    Command("break", ("br",), "[EVENTS] [if CONDITION]", Commands.break_, "break"),
    Command("watch", ("w",), "PATH|EXPRESSION", Commands.watch, "path"),
    Command("delete", (), "[NUMBER…]", Commands.delete, "number"),
    Command("disable", (), "[NUMBER…]", Commands.disable, "number"),
    Command("enable", (), "[NUMBER…]", Commands.enable, "number"),
    Command("last", (), "PATH", Commands.last, "path", moves=True),
    Command("next", ("n",), "[PATH]", Commands.next, "path", moves=True),
    Command("find", ("f",), "[last|next|previous] CONDITION", Commands.find, "path"),
    Command("print", ("p",), "[PATH|EXPRESSION]", Commands.print_, "path"),
    Command("diff", ("d",), "[MOMENT [MOMENT]]", Commands.diff, "moment"),
    Command("event", ("e",), "", Commands.event),
    Command("why", (), "", Commands.why),
    Command("list", ("l",), "[N]", Commands.list_),
    Command("blame", (), "[PATH]", Commands.blame, "path"),
    Command("history", (), "PATH", Commands.history, "path"),
    Command("undo", (), "", Commands.undo),
    Command("branch", (), "[NAME]", Commands.branch),
    Command("bookmark", (), "[[delete] NAME]", Commands.bookmark, "bookmark"),
    Command("info", ("i",), "", Commands.info),
    Command("help", ("h", "?"), "[COMMAND]", Commands.help, "command"),
    Command("quit", ("q", "exit"), "", Commands.quit),
)
_BY_NAME: Final = {name: one for one in COMMANDS for name in (one.name, *one.short)}


def command_of(name: str) -> Command:
    """The command of that name, short name, or unambiguous beginning of a name."""
    found = _BY_NAME.get(name)
    if found is not None:
        return found
    beginning = [one for one in COMMANDS if one.name.startswith(name)] if name else []
    if len(beginning) == 1:
        return beginning[0]
    if beginning:
        names = ", ".join(one.name for one in beginning)
        raise InvalidQueryError(f"{name!r} can mean {names}; type more of it")
    raise InvalidQueryError(f"there is no command {name!r}; help lists them")


def _names(command: Command) -> str:
    return ", ".join((command.name, *command.short))


def _count(rest: str, default: int = 1) -> int:
    if not rest:
        return default
    if not rest.isdecimal() or len(rest) > 18:
        raise InvalidQueryError(f"{rest!r} is not a number of events; give one, such as 10")
    return int(rest)


def _given(rest: str, usage: str) -> str:
    if not rest:
        raise InvalidQueryError(f"an argument is missing; use: {usage}")
    return rest


def _nothing(rest: str, command: str) -> None:
    if rest:
        raise InvalidQueryError(f"{command} takes no argument; leave out {rest!r}")


def _which(rest: str) -> tuple[Which, str]:
    word, _, text = rest.partition(" ")
    if word in _WHICH and text.strip():
        try:
            Expression(text)
        except ExpressionError:
            return "first", rest
        return _WHICH[word], text
    return "first", rest


def _moments(rest: str) -> list[str]:
    """One or two moments: between dots, in quotes, or a word each; else all of it is one."""
    if ".." in rest:
        first, _, second = rest.partition("..")
        return [first.strip(), second.strip() or "head"]
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise InvalidQueryError(f"{rest}: a quote isn't closed; close it") from error
    return words if len(words) <= 2 and not _is_moment(rest) else [rest]


def _is_moment(text: str) -> bool:
    try:
        given_moment_of(text)
    except InvalidQueryError:
        return False
    return True
