# Generated from src/everwhen/commands/_async/middleware.py by tools/unasync.py: edit that, then run `make sync`.
"""Layers of middleware for the command bus that most applications want."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from everwhen.commands._sync.command_bus import CallNext, CommandResult, Envelope, Middleware
from everwhen.vocabulary.errors import DeclarationError, NotAllowedError, RefusedError
from everwhen.vocabulary.validation import check_plain

_LOG: Final = logging.getLogger("everwhen.commands")


def logged(logger: logging.Logger = _LOG) -> Middleware:
    """Log each command with its outcome: done and refused ones as information, failures as errors.

    The command's type, user and duration are logged, never its data.
    """

    def log(envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        name, user = type(envelope.command).__name__, envelope.user_id or "-"
        began = time.perf_counter()
        try:
            result = proceed(envelope)
        except RefusedError as refusal:
            logger.info("%s by %s refused: %s", name, user, type(refusal).__name__)
            raise
        except Exception:
            logger.exception("%s by %s failed", name, user)
            raise
        took = (time.perf_counter() - began) * 1000
        events = len(result.events)
        logger.info("%s by %s: %d events, %.1f ms", name, user, events, took)
        return result

    return log


def authorised(may: Callable[[Envelope], bool]) -> Middleware:
    """Let a command through only if ``may`` says so; raises `NotAllowedError` otherwise."""
    check_plain(may, "authorised")

    def authorise(envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        allowed = may(envelope)
        if not isinstance(allowed, bool):
            raise DeclarationError(
                f"may={may!r} answered {allowed!r}; it must return True or False"
            )
        if not allowed:
            raise NotAllowedError(type(envelope.command).__name__, envelope.user_id)
        return proceed(envelope)

    return authorise


class TraceSpan(Protocol):
    """What is asked of a span of OpenTelemetry's API."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Note a fact."""
        ...


class Tracer(Protocol):
    """What is asked of a tracer of OpenTelemetry's API (``opentelemetry.trace.get_tracer``)."""

    def start_as_current_span(
        self, name: str, *, attributes: Mapping[str, Any] | None = None
    ) -> AbstractContextManager[TraceSpan]:
        """A span around what happens within; an exception is noted in it."""
        ...


def traced(tracer: Tracer) -> Middleware:
    """A span for each command, with what became of it.

    Names and attributes follow OpenTelemetry's conventions: ``everwhen.command.type``,
    ``everwhen.commit.id``, ``everwhen.position``, ``everwhen.events``, ``everwhen.attempts``.
    """

    def trace(envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        name = type(envelope.command).__name__
        attributes = {"everwhen.command.type": name}
        if envelope.user_id is not None:
            attributes["enduser.id"] = envelope.user_id
        with tracer.start_as_current_span(f"command {name}", attributes=attributes) as span:
            result = proceed(envelope)
            if result.receipt is not None:
                span.set_attribute("everwhen.commit.id", str(result.receipt.commit_id))
                span.set_attribute("everwhen.position", result.receipt.position)
            span.set_attribute("everwhen.events", len(result.events))
            span.set_attribute("everwhen.attempts", result.attempts)
            return result

    return trace
