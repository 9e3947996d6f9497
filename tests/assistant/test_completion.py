"""What `done` says of an answer."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.assistant.completion import CompletionRule, Dropped, code_blocks, cut_analysis
from protocol.codec import encode, unstructure
from protocol.commands import Intent
from protocol.events import Done, FinishReason, Timings, Usage

DONE = Done(
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=1, completion_tokens=1),
    timings=Timings(queued_ms=0, first_token_ms=1, total_ms=1, tokens_per_second=None),
    confidence=0.95,
    seed=0,
)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no code", []),
        ("```python\nx = 1\n```", [("python", "x = 1\n", True)]),
        ("a\n```PYTHON title\nx\n```\nb\n~~~\ny\n~~~\n", [("python", "x\n", True), ("go", "y\n", True)]),
        ("````md\n```\nin\n```\n````", [("md", "```\nin\n```\n", True)]),
        ("```\nx\n", [("go", "x\n", False)]),
        ("```\n\n```", [("go", "\n", True)]),
        ("```", [("go", "", False)]),
        ("text ```inline``` text", []),
        ("```a`b\nx\n```\n", [("go", "", False)]),
        ("    ```\nindented is no fence", []),
    ],
    ids=repr,
)
def test_code_blocks_are_parsed_as_commonmark_says(text: str, blocks: list[tuple[str, str, bool]]) -> None:
    found = [(one["language"], one["code"], one["is_complete"]) for one in code_blocks(text, "go")]
    assert found == blocks


def test_a_block_of_no_known_language_names_none() -> None:
    assert code_blocks("```\nx\n```") == [{"code": "x\n", "is_complete": True}]


@given(st.lists(st.tuples(st.sampled_from(["", "python", "c"]), st.text(alphabet="ab `~\n", max_size=20)), max_size=4))
def test_what_is_fenced_long_enough_is_found_again(parts: list[tuple[str, str]]) -> None:
    text = "".join(f"say\n{'`' * 30}{name}\n{code}\n{'`' * 30}\n" for name, code in parts)
    found = code_blocks(text)
    assert [(one.get("language", ""), one["code"]) for one in found] == [(name, f"{code}\n") for name, code in parts]


@pytest.mark.parametrize(
    ("intent", "text", "changes", "requires"),
    [
        (Intent.REFACTOR, "```python\ny = 2\n```", {}, True),
        (Intent.REFACTOR, "```python\nx = 1\n```", {}, False),
        (Intent.REFACTOR, "It is fine.", {}, False),
        (Intent.EXPLAIN, "```python\ny = 2\n```", {}, False),
        (Intent.EXPLAIN, "It is fine.", {"confidence": 0.79}, True),
        (Intent.EXPLAIN, "It is fine.", {"confidence": 0.8}, False),
        (Intent.EXPLAIN, "", {"confidence": None}, True),
        (Intent.ASK, "cut", {"finish_reason": FinishReason.LENGTH}, True),
    ],
)
def test_a_person_should_look_where_the_rule_says(
    intent: Intent, text: str, changes: dict[str, object], requires: bool
) -> None:
    fields = CompletionRule(intent=intent, content="x = 1\n", language="python")(text, attrs.evolve(DONE, **changes))
    assert fields["requires_review"] is requires
    assert fields["intent"] == intent.value
    assert "dropped" not in fields
    # Nobody calibrated anything, so nothing is claimed.
    assert "calibrated" not in fields


def test_what_was_dropped_is_told() -> None:
    rule = CompletionRule(intent=Intent.ASK, dropped=Dropped(lines_after=3))
    fields = rule("x", DONE)
    assert fields["dropped"] == {"lines_before": 0, "lines_after": 3, "turns": 0}
    assert "usage" not in fields
    fields = CompletionRule(dropped=Dropped(turns=4))("x", DONE)
    assert fields["dropped"]["turns"] == fields["usage"]["dropped_turns"] == 4
    assert fields["usage"] == {**unstructure(DONE.usage), "dropped_turns": 4}


@given(st.text(max_size=200), st.integers(10, 300))
def test_an_analysis_is_cut_to_its_encoded_size(text: str, limit: int) -> None:
    kept, is_cut = cut_analysis(text, limit)
    assert text.startswith(kept)
    assert is_cut == (kept != text)
    assert len(encode([kept])) <= limit
    if is_cut:
        assert len(encode([text[: len(kept) + 1]])) > limit
    assert json.loads(encode([kept])) == [kept]
