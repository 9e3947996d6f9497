"""`leanvibe model calibrate`: sets of questions, their checks, and what the running server is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from actors.command_line.calibrate import DEFAULT_SET, measure
from actors.command_line.calibration_set import BadSet, Check, Item, parse_set
from actors.command_line.credentials import Credentials
from tests.assistant.kit import told as events_told
from tests.server_fixture import running_server
from tests.system.serving_process import leanvibe, start_server


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (Check(contains="Paris"), "It is PARIS.", "London"),
        (Check(regex=r"\b12\b"), "That is 12.", "112"),
        (Check(python_parses=True), "Here:\n```python\nx = 1\n```\nIt works.", "```python\nx = = 1\n```"),
        (Check(python_parses=True), "def f():\n    return 1\n", "I cannot do that."),
        (Check(python_parses=True), "```\nx = 1", "```python\n```"),
    ],
    ids=["contains", "regex", "block", "no block", "open block"],
)
def test_an_answer_passes_its_check_or_not(check: Check, right: str, wrong: str) -> None:
    assert check.is_right(right)
    assert not check.is_right(wrong)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x", "line 2 is not JSON"),
        ("[]", "line 2 is not a JSON object"),
        ('{"prompt": "x"}', "line 2: item.check"),
        ('{"prompt": "", "check": {"contains": "x"}}', "line 2: item.prompt"),
        ('{"prompt": "x", "check": {}}', "line 2: item.check.contains"),
        ('{"prompt": "x", "check": {"contains": "x", "regex": "x"}}', "line 2: item.check.contains"),
        ('{"prompt": "x", "check": {"python_parses": false}}', "line 2: item.check.contains"),
        ('{"prompt": "x", "check": {"regex": "("}}', "line 2: item.check.regex"),
        ('{"prompt": "x", "check": {"contains": "x"}, "y": 1}', "line 2: item.y"),
    ],
)
def test_a_wrong_line_is_named(line: str, says: str) -> None:
    with pytest.raises(BadSet) as refused:
        parse_set("\n" + line)
    assert str(refused.value).startswith(says)


def test_the_set_that_comes_with_the_program_has_thirty_items_of_all_kinds() -> None:
    items = parse_set(DEFAULT_SET.read_text(encoding="utf-8"))
    assert len({one.prompt for one in items}) == 30
    kinds = [(one.check.contains is None, one.check.regex is None, one.check.python_parses is None) for one in items]
    assert len(set(kinds)) == 3


@pytest.mark.integration
async def test_every_question_is_asked_and_judged_with_its_measured_confidence(tmp_path: Path) -> None:
    items = [
        Item(prompt="count to 3", check=Check(contains="1 2 3")),
        Item(prompt="count to 3", check=Check(contains="4")),
    ]
    told: list[None] = []
    async with running_server(tmp_path) as server:
        measured = await trio.to_thread.run_sync(
            measure, server.about.rest_url, Credentials(token=None, tls=None), items, lambda: told.append(None)
        )
        # Nobody's devices are told of it.
        assert await events_told(server) == []
    # The mock is certain of each byte.
    assert measured == [(1.0, True), (1.0, False)]
    assert len(told) == 2


@pytest.mark.integration
def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps({"prompt": "x", "check": {"contains": "x"}}) + "\n", encoding="utf-8")
    data = tmp_path / "data"
    done = leanvibe(data, "model", "calibrate", "embedded")
    assert (done.returncode, "no server runs" in done.stderr) == (3, True)
    with start_server(data) as server:
        server.until_ready()
        done = server.run("model", "calibrate", "mock")
        assert (done.returncode, "no model called mock" in done.stderr) == (1, True)
        done = server.run("model", "calibrate", "mock", "--set", str(few))
        assert (done.returncode, "has 1 items; 20 are needed" in done.stderr) == (2, True)
