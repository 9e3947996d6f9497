"""rich's console for text of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.style import Style
from rich.text import Text

from actors.terminal_text import many_lines, one_line

if TYPE_CHECKING:
    from rich.markdown import Markdown

__all__ = ["Screen", "markdown", "words"]


class Screen(Console):
    """rich's console for text of others: no markup, no codes for pictures, and control characters shown.

    Text is made safe before it is measured, so that columns stand where they are drawn.
    """

    def __init__(self, *, stderr: bool = False, markup: bool = False) -> None:
        super().__init__(stderr=stderr, markup=markup, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """What rich asks for every plain string, in cells and titles as well."""
        return super().render_str(many_lines(text), **options)


def words(text: object, style: str | Style = "", *, is_long: bool = False) -> Text:
    """Somebody's text with a style; in one line unless it may have several."""
    return Text(many_lines(str(text)) if is_long else one_line(str(text)), style=style)


def markdown(text: str) -> Markdown:
    """Somebody's Markdown. Links are written out: a terminal's own would hide where they lead."""
    # It brings a parser with it, which most commands never need.
    from rich.markdown import Markdown

    return Markdown(many_lines(text), hyperlinks=False)
