"""Markdown of a model, laid out for a terminal without losing any of its text.

Models write Markdown and at the same time HTML, generics, products, poems and shell lines outside of code. So only what is
markup beyond doubt is taken as such: no HTML, no entities, no references, no emphasis within a word or by underscores,
line breaks where they stand. Lines of code are written whole, with their tabs; the terminal breaks them, and what is
copied from it is what the model wrote. A block whose letters do not all come out is shown as its source.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import BlockQuote, CodeBlock, Heading, ListElement, ListItem, Markdown, Paragraph
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

from actors.terminal_text import many_lines

__all__ = ["Line", "block_lines", "block_starts", "is_code", "line_text", "lines_of"]

Line = list[Segment]
ESCAPED = frozenset("*`_[]#")
"""What a backslash takes its meaning from; before anything else it is a backslash."""
MARKUP = frozenset("*`~#>|-+=_:\\[]()!")
LINKED = ("http://", "https://", "mailto:", "ftp://", "/", "#", "./", "../")
CODE_STYLE = "ansi_dark"
HIGHLIGHTED_CHARACTERS = 100_000
"""Longer code is shown in one colour, because every redraw highlights it again."""


def block_starts(text: str) -> list[int]:
    """The lines at which the blocks of a text begin."""
    return [one.map[0] for one in _PARSER.parse(text) if one.level == 0 and one.nesting >= 0 and one.map]


def lines_of(text: str) -> list[str]:
    """The lines with their ends, as `block_starts` counts them."""
    return [*(one + "\n" for one in text.split("\n")[:-1]), text.rpartition("\n")[2]]


def is_code(text: str) -> bool:
    """True for fenced code."""
    return text.lstrip(" ").startswith(("```", "~~~"))


def block_lines(text: str, console: Console, width: int) -> list[Line]:
    """The lines of one block or of several, at most ``width`` cells wide where they are not code."""
    text = many_lines(text)
    laid_out = _lines(console, _SourceMarkdown(text), console.options.update(width=width, height=None))
    if not is_code(text):
        # Space around a block is no part of it.
        while laid_out and not line_text(laid_out[-1]).strip():
            laid_out.pop()
        while laid_out and not line_text(laid_out[0]).strip():
            laid_out.pop(0)
    if _is_whole(text, laid_out):
        return laid_out
    return _lines(console, Text(text.rstrip("\n")), console.options.update(width=width, height=None))


def line_text(line: Line) -> str:
    """Return the text of a line."""
    return "".join(one.text for one in line)


def _is_whole(text: str, lines: list[Line]) -> bool:
    wanted = Counter(one for one in text if not one.isspace() and one not in MARKUP)
    return not wanted - Counter("".join(line_text(one) for one in lines))


def _lines(console: Console, renderable: Any, options: ConsoleOptions) -> list[Line]:
    return list(Segment.split_lines(console.render(renderable, options)))


# --- what is markup -----------------------------------------------------------------------------------


def _newline(state: StateInline, silent: bool) -> bool:
    """A line ends where it ends, and the next keeps its indentation."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos += 1
    return True


def _emphasis(state: StateInline, silent: bool) -> bool:
    """Asterisks as Markdown has underscores: not within a word or a formula."""
    if silent or state.src[state.pos] != "*":
        return False
    scanned = state.scanDelims(state.pos, False)
    for _ in range(scanned.length):
        state.push("text", "", 0).content = "*"
        state.delimiters.append(
            Delimiter(
                marker=ord("*"),
                length=scanned.length,
                token=len(state.tokens) - 1,
                end=-1,
                open=scanned.can_open,
                close=scanned.can_close,
            )
        )
    state.pos += scanned.length
    return True


def _escape(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "\\" or state.src[state.pos + 1 : state.pos + 2] not in ESCAPED:
        return False
    if not silent:
        state.pending += state.src[state.pos + 1]
    state.pos += 2
    return True


def _make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.disable(["reference", "lheading", "html_block", "html_inline", "entity", "autolink", "image"])
    parser.inline.ruler.at("newline", _newline)
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.inline.ruler.at("escape", _escape)
    parser.validateLink = lambda url: url.lower().startswith(LINKED)  # type: ignore[method-assign]
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    return parser


_PARSER = _make_parser()

# --- how it looks -------------------------------------------------------------------------------------


class _Paragraph(Paragraph):
    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _Paragraph:
        # Any other is filled up with spaces, which would be copied as well.
        return cls(justify="default")


class _Heading(Heading):
    LEVEL_ALIGN: ClassVar[Any] = dict.fromkeys(Heading.LEVEL_ALIGN, "default")


class _Code(CodeBlock):
    """Code line by line as it is, below what its fence says of it."""

    info = ""

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _Code:
        made = cls((token.info or "").partition(" ")[0] or "text", CODE_STYLE)
        made.info = (token.info or "").strip()
        return made

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.info:
            yield Segment(f"  {self.info}", console.get_style("dim"))
            yield Segment.line()
        code = str(self.text).removesuffix("\n")
        for line in self._coloured(code).split("\n", allow_blank=True):
            # Text would set its tabs out.
            yield from line.render(console)
            yield Segment.line()

    def _coloured(self, code: str) -> Text:
        if len(code) > HIGHLIGHTED_CHARACTERS or self.lexer_name == "text":
            return Text(code)
        found = Syntax("", self.lexer_name, theme=CODE_STYLE, tab_size=0).highlight(code)
        found.rstrip()
        return found if found.plain == code else Text(code)


class _Quote(BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _beside(console, options, self.elements, "▌ ", "▌ ", self.style)


class _Item(ListItem):
    mark = "• "

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _Item:
        made = cls()
        if token.info:
            made.mark = f"{token.info}{token.markup} "
        return made

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        mark = f" {self.mark}"
        yield from _beside(console, options, self.elements, mark, " " * len(mark), self.style)


class _List(ListElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for item in self.items:
            yield from item.__rich_console__(console, options)


def _beside(console: Console, options: ConsoleOptions, inner: Any, first: str, others: str, style: Any) -> RenderResult:
    """Lines behind a mark; those of code may be longer than there is room."""
    lines = _lines(console, inner, options.update(width=max(1, options.max_width - len(first))))
    for number, line in enumerate(lines or [[]]):
        yield Segment(others if number else first, style)
        yield from line
        yield Segment.line()


class _SourceMarkdown(Markdown):
    elements: ClassVar[Any] = {
        **Markdown.elements,
        "paragraph_open": _Paragraph,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
        "blockquote_open": _Quote,
        "bullet_list_open": _List,
        "ordered_list_open": _List,
        "list_item_open": _Item,
    }

    def __init__(self, text: str) -> None:
        # Links are written out: a terminal's own would hide where they lead.
        super().__init__("", hyperlinks=False)
        self.parsed = _PARSER.parse(text)
