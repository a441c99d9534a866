"""A console of Rich's in which what is drawn can't command the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from everwhen.vocabulary.escaping import escaped


class SafeConsole(Console):
    """Escapes each piece of text that is drawn; styles and control codes are Rich's own."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The pieces of it."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escaped(segment.text, keeping="\n"), segment.style)
