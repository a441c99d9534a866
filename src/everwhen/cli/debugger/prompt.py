"""The prompt ``(timedb)``: where lines come from, and what Ctrl-C does while one runs."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from everwhen import EverwhenError, Store
from everwhen.cli.debugger.commands import Commands, NothingFoundError, QuitError
from everwhen.cli.debugger.completion import candidates
from everwhen.cli.escaping import unescaping
from everwhen.cli.exit_codes import CommandStop, described
from everwhen.cli.output import erased_by, is_terminal
from everwhen.debugging import InterruptedSearchError
from everwhen.system.durable_files import state_folder
from everwhen.travel import Moment
from everwhen.vocabulary.erasures import ERASURES
from everwhen.vocabulary.escaping import escaped

_PATIENCE: Final = 0.4
_APART: Final = 0.1


def run_script(commands: Commands, moment: Moment, lines: Iterable[str]) -> bool:
    """Run the lines up to the first that fails; whether all went well."""
    commands.session.start(moment)
    for line in lines:
        if not line.strip():
            continue
        try:
            commands.run(line.rstrip("\r\n"))
        except QuitError:
            break
        except Exception as error:
            if isinstance(error, BrokenPipeError):
                raise
            commands.answers.failed(line.strip(), _said(error))
            return False
    return True


def interact(commands: Commands, moment: Moment) -> None:
    """Read lines from the terminal until the end."""
    prompt: PromptSession[str] = PromptSession(
        history=_history(commands.session.store),
        auto_suggest=AutoSuggestFromHistory(),
        completer=_Completer(commands),
        complete_while_typing=False,
    )
    message = FormattedText([("ansigreen bold", "(timedb) ")])
    commands.answers.say("help lists the commands, quit leaves", "dim")
    goes_on = _attempt(commands, partial(commands.begin, moment))
    while goes_on:
        try:
            line = prompt.prompt(message)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        goes_on = _attempt(commands, partial(commands.run, line))


def _attempt(commands: Commands, call: Callable[[], None]) -> bool:
    """Run it, and say what goes wrong; False when the session is over."""
    try:
        with _interruptible(commands), _progress(commands):
            call()
    except QuitError:
        return False
    except KeyboardInterrupt:
        commands.session.renew()
        commands.answers.say("interrupted", "yellow")
    except InterruptedSearchError as error:
        commands.answers.say(str(error), "yellow")
    except NothingFoundError as error:
        commands.answers.say(str(error), "yellow")
    except Exception as error:  # noqa: BLE001 (the session outlives whatever a fold raises)
        commands.answers.say(_said(error), "red")
    return True


def _said(error: Exception) -> str:
    if isinstance(error, EverwhenError | CommandStop | OSError | NothingFoundError):
        return described(error)
    return f"{type(error).__name__}: {error}"


@contextmanager
def _interruptible(commands: Commands) -> Iterator[None]:
    """The first Ctrl-C ends a search in good order; a second one breaks off whatever it is."""
    asked = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        commands.session.interrupt()

    commands.session.forget_interrupt()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(commands: Commands) -> Iterator[None]:
    """Say how far a search is, once it takes a while."""
    if not is_terminal(sys.stderr):
        yield
        return
    terminal = unescaping(sys.stderr)
    told = began = time.monotonic()
    is_drawn = False

    def tell(position: int) -> None:
        nonlocal told, is_drawn
        now = time.monotonic()
        if now - began > _PATIENCE and now - told > _APART:
            told, is_drawn = now, True
            line = f"  position {position:,} … Ctrl-C ends the search"
            width = shutil.get_terminal_size().columns - 1  # a line that wraps can't be taken back
            terminal.write(f"\r\x1b[2K{line[:width]}")
            terminal.flush()

    def erase() -> None:
        nonlocal is_drawn
        if is_drawn:
            is_drawn = False
            terminal.write("\r\x1b[2K")
            terminal.flush()

    commands.session.progress = tell
    try:
        with erased_by(erase):
            yield
    finally:
        commands.session.progress = None
        erase()


class _Completer(Completer):
    """Offers what fits at the cursor."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """What fits, in place of what was begun; nothing where the store can't say."""
        del event
        try:
            begun, found = candidates(self._commands.session, document.text_before_cursor)
        except Exception:  # noqa: BLE001 (a fold may raise; nobody asked for an error)
            return
        for text in found:
            yield Completion(text, start_position=-len(begun), display=escaped(text))


def _history(store: Store) -> History:
    """What was typed in earlier sessions, where that can be kept and may be.

    What is typed names people: in a search, a condition, a path. Of a store whose people can be
    forgotten nothing is kept, for forgetting them couldn't find it again.
    """
    if store.vault is not None or store.stream(ERASURES) is not None:
        return InMemoryHistory()
    try:
        path = state_folder() / "debug_history"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return FileHistory(str(path))
