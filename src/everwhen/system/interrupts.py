"""Telling what a signal's handler raises from a failure of what was interrupted.

A handler is called between any two steps of the main thread, and what it raises (a ``TimeoutError``
of an alarm, say) comes out of whatever code happens to run there: a file that is asked for, a
condition that is judged. That code isn't at fault. But the handler's frame is in the traceback, and
it was given, as its second argument, the very frame that it interrupted: its caller's.
"""

from __future__ import annotations

import inspect
import itertools
import signal
import threading
from types import CodeType, FrameType
from typing import Any


def is_interrupt(error: BaseException) -> bool:
    """Whether the error came out of a signal's handler, and ends the call from outside.

    What ``PyThreadState_SetAsyncExc`` raises in a thread leaves no frame, and can't be recognised.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers: set[CodeType] | None = None
    step = error.__traceback__
    while step is not None:
        frame = step.tb_frame
        if frame.f_back is not None and _was_given(frame, frame.f_back):
            return True
        if handlers is None:
            handlers = _handlers()
        if frame.f_code in handlers:
            return True
        step = step.tb_next
    return False


def _was_given(frame: FrameType, caller: FrameType) -> bool:
    """Whether the function was called with a number and its caller's frame."""
    code, own = frame.f_code, frame.f_locals
    given = [own.get(name) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & inspect.CO_VARARGS:
        given += own.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
    return any(
        isinstance(number, int) and value is caller for number, value in itertools.pairwise(given)
    )


def _handlers() -> set[CodeType]:
    """The code of the handlers that are set: one may have deleted what it was given."""
    found: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        handler = getattr(handler, "func", handler)
        handler = getattr(handler, "__func__", handler)
        code = getattr(handler, "__code__", None)
        if isinstance(code, CodeType):
            found.add(code)
    return found
