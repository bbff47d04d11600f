"""The terminal, file or pipe to which all output goes. No control character in a text reaches it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from dalsegno.cli.clean import one_line, visible
from dalsegno.cli.table import fold

_UNFOLDED_WIDTH = 1_000


class Screen(Console):
    """A console that prints control characters as symbols and does not interpret markup."""

    def __init__(self, file: TextIO, width: int | None = None, *, is_terminal: bool | None = None) -> None:
        wide = width is None and not file.isatty()
        super().__init__(
            file=file,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=wide,
            width=_UNFOLDED_WIDTH if wide else width,
            force_terminal=is_terminal,
        )
        self.fold_width = None if wide else self.width
        """The width at which lines are folded; None: they are not, because a program may read them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable, with symbols for the control characters of its texts."""
        for segment in super().render(renderable, options):
            text = visible(segment.text) if not segment.control else segment.text
            yield segment if text == segment.text else Segment(text, segment.style, segment.control)

    def put(self, line: Text) -> None:
        """Print a line without layout, quickly: there may be very many."""
        if self.is_terminal:
            self.print(line, soft_wrap=True)
        else:
            self.file.write(visible(line.plain) + "\n")

    def print_line(self, text: str | Text, indent: int = 2) -> None:
        """Print one line; if it is folded, its further lines are indented by `indent` cells."""
        told = Text(one_line(text)) if isinstance(text, str) else text.copy()
        told.plain = one_line(told.plain)
        for number, part in enumerate(fold(told, self.fold_width, indent)):
            self.put(part if number else part[indent:])

    def print_block(self, text: str, indent: int = 2) -> None:
        """Print a text of many lines, each indented by `indent` cells."""
        for line in visible(text).rstrip("\n").split("\n"):
            for part in fold(Text(line), self.fold_width, indent):
                self.put(part)


def console(*, error: bool = False) -> Screen:
    """Return the screen of standard output, or of standard error."""
    return Screen(sys.stderr if error else sys.stdout)
