"""What the model is told, and what is left out when it is too much."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.assistant.code_window import window_around
from actors.assistant.context_fitting import NEAR_CHARACTERS, PromptPlan, answer_room, plan_of, shrink
from actors.assistant.conversation_rules import StoredTurn
from actors.assistant.prompts import CURSOR_MARK, language_of
from actors.errors import CommandError
from protocol.codec import structure
from protocol.commands import Assist, ChatMessage, Generate, Intent, OnDisconnect, Role
from protocol.errors import ErrorCode, InvalidField
from protocol.programming_languages import LANGUAGES, language_of_file

CODE = "def f(x):\n    return x\n"


def assist(intent: Intent = Intent.EXPLAIN, content: str = CODE, **fields: Any) -> Assist:
    return Assist(intent=intent, content=content, **fields)


def prompt(plan: PromptPlan) -> list[tuple[str, str]]:
    return [(one.role.value, one.content) for one in plan.generate().messages or ()]


# --- languages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a.py", "python"),
        ("src/deep/a.PY", "python"),
        ("C:\\code\\main.rs", "rust"),
        ("a.tsx", "typescript"),
        ("Makefile", None),
        ("a.unknown", None),
        (".py", None),
    ],
)
def test_a_files_name_tells_the_language(path: str, language: str | None) -> None:
    assert language_of_file(path) == language
    assert language_of(assist(file_path=path)) == language
    # What is said outright counts more.
    assert language_of(assist(file_path=path, language="go")) == "go"


def test_no_ending_stands_for_two_languages() -> None:
    endings = [ending for one in LANGUAGES.values() for ending in one]
    assert len(endings) == len(set(endings))


# --- prompts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intent", [one for one in Intent if one is not Intent.ASK])
def test_each_intent_has_a_task_of_its_own_and_the_whole_code(intent: Intent) -> None:
    (system, _), (user, text) = prompt(plan_of(assist(intent, file_path="pkg/f.py")))
    assert (system, user) == ("system", "user")
    assert f"```python\n{CODE}```" in text
    assert "'pkg/f.py'" in text
    others = [prompt(plan_of(assist(one)))[1][1] for one in Intent if one is not intent]
    assert text not in others


def test_a_question_is_passed_on_as_it_stands() -> None:
    assert prompt(plan_of(assist(Intent.ASK, "What is a monad?")))[1] == ("user", "What is a monad?")


def test_a_suggestion_is_asked_for_at_the_cursor() -> None:
    text = prompt(plan_of(assist(Intent.SUGGEST, cursor=len("def f(x):\n"))))[1][1]
    assert f"def f(x):\n{CURSOR_MARK}    return x" in text


def test_code_with_fences_in_it_gets_a_longer_fence() -> None:
    text = prompt(plan_of(assist(content="a = '''\n````\n'''\n", language="python")))[1][1]
    assert "`````python\n" in text
    assert text.endswith("`````")


def test_the_request_is_greedy_and_keeps_what_the_client_said_of_leaving() -> None:
    generate = plan_of(assist(on_disconnect=OnDisconnect.DETACH)).generate(7)
    assert (generate.temperature, generate.seed, generate.max_tokens) == (0.0, 0, 7)
    assert generate.on_disconnect is OnDisconnect.DETACH


# --- windows ------------------------------------------------------------------------------------------


def test_what_is_near_to_the_cursor_stays() -> None:
    content = "".join(f"line {number}\n" for number in range(100))
    cursor = content.index("line 50") + 2
    window = window_around(content, cursor, 24)
    assert window is not None
    assert window.text == "line 49\nline 50\nline 51\n"
    assert (window.lines_before, window.lines_after) == (49, 48)
    assert window.cursor is not None
    assert window.text[window.cursor :].startswith("ne 50")


def test_without_a_cursor_the_beginning_stays() -> None:
    window = window_around("a\nb\nc\nd\n", None, 4)
    assert window is not None
    assert (window.text, window.lines_before, window.lines_after, window.cursor) == ("a\nb\n", 0, 2, None)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=9), max_size=30), st.data())
def test_a_window_is_one_piece_around_the_cursor_and_never_too_long(lines: list[str], data: st.DataObject) -> None:
    content = "\n".join(lines)
    cursor = data.draw(st.none() | st.integers(0, len(content)))
    limit = data.draw(st.integers(0, len(content) + 5))
    window = window_around(content, cursor, limit)
    if window is None:
        at = cursor or 0
        assert max(len(line) for line in content.splitlines(keepends=True)) > limit, at
        return
    assert len(window.text) <= limit or window.is_whole
    whole = content.splitlines(keepends=True)
    kept = whole[window.lines_before : len(whole) - window.lines_after]
    assert "".join(kept) == window.text
    if cursor is not None and window.cursor is not None:
        before = sum(len(line) for line in whole[: window.lines_before])
        assert before + window.cursor == cursor
        assert 0 <= window.cursor <= len(window.text)


# --- fitting ------------------------------------------------------------------------------------------


def fit(plan: PromptPlan, room: int, context: int = 10**6) -> PromptPlan:
    """As the actor does it, with characters for tokens."""
    for _ in range(50):
        size = sum(len(text) for _, text in prompt(plan))
        if size <= room:
            return plan
        plan = shrink(plan, size, room, context)
    raise AssertionError("it never fits")


def turns(count: int, size: int = 100) -> list[StoredTurn]:
    roles = [Role.USER, Role.ASSISTANT]
    return [StoredTurn(number=one + 1, role=roles[one % 2], text=f"{one:0{size}}") for one in range(count)]


@pytest.mark.parametrize("count", [1000, 1002, 5000])
def test_wa10_a_conversation_of_any_length_is_asked_on(count: int) -> None:
    source = Generate(messages=[ChatMessage(role=Role.USER, content="and now?")], conversation="long")
    plan = plan_of(source, turns(count), turns_before=7)
    messages = plan.generate().messages
    assert messages is not None
    assert messages[-1].content == "and now?"
    assert len(messages) <= 1001
    assert (plan.turns[0].role, plan.turns[-1].number) == (Role.USER, count)
    assert plan.turns_before == 7 + count - len(plan.turns)


def test_far_away_code_goes_first_and_that_is_said() -> None:
    content = "".join(f"x{number} = {number}\n" for number in range(1000))
    fitted = fit(plan_of(assist(content=content, cursor=content.index("x500"))), 3000)
    text = prompt(fitted)[1][1]
    assert "x500 = 500" in text
    assert "x0 = 0" not in text
    assert f"{fitted.code.lines_before} lines above and {fitted.code.lines_after} lines below" in text
    dropped = fitted.rule().dropped.as_data()
    assert dropped is not None
    shown = text.count(" = ")
    assert dropped["lines_before"] + dropped["lines_after"] + shown == 1000
    # Not much more than had to go.
    assert sum(len(one) for _, one in prompt(fitted)) > 2000


def test_then_the_older_half_of_the_turns_and_then_the_nearer_code() -> None:
    content = "y = 1\n" * 1000
    fitted = fit(plan_of(assist(content=content), turns(8)), NEAR_CHARACTERS + 900)
    # 2000 characters of code stay beside four turns of eight, newest last.
    assert len(fitted.code.text) > NEAR_CHARACTERS - 10
    assert [one.number for one in fitted.turns] == [5, 6, 7, 8]
    assert fitted.rule().dropped.turns == 4
    smallest = fit(plan_of(assist(content=content), turns(8)), 700)
    assert smallest.turns == []
    assert 0 < len(smallest.code.text) < 500


def test_a_conversation_goes_half_a_window_at_a_time() -> None:
    plan = plan_of(Generate(messages=[ChatMessage(Role.USER, "z" * 50)], conversation="c"), turns(20))
    sizes = {len(fit(plan, room).turns) for room in range(2100, 100, -50)}
    assert sorted(sizes, reverse=True) == [20, 10, 4, 2, 0]


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (assist(Intent.ASK, "why? " * 500), "data.content"),
        (assist(content="x" * 5000), "data.content"),
        (Generate(messages=[ChatMessage(Role.USER, "z" * 5000)], conversation="c"), "data.messages"),
    ],
    ids=["a question", "one long line", "a message"],
)
def test_what_cannot_be_cut_is_refused_with_both_numbers(source: Assist | Generate, field: str) -> None:
    with pytest.raises(CommandError, match=r"\d+ tokens.*1200") as refused:
        fit(plan_of(source, turns(4)), 1000, context=1200)
    assert (refused.value.code, refused.value.field) == (ErrorCode.CONTEXT_LENGTH_EXCEEDED, field)


def test_the_answer_has_its_room() -> None:
    assert answer_room(8192, None) == 1024
    assert answer_room(1000, None) == 250
    assert answer_room(8192, 3000) == 3000


# --- turns of generate --------------------------------------------------------------------------------


def test_a_turn_of_generate_keeps_its_settings_and_its_system_message() -> None:
    source = Generate(
        messages=[ChatMessage(Role.SYSTEM, "be brief"), ChatMessage(Role.USER, "go on")],
        conversation="c",
        temperature=0.5,
        seed=9,
    )
    plan = plan_of(source, turns(2, size=3))
    assert prompt(plan) == [("system", "be brief"), ("user", "000"), ("assistant", "001"), ("user", "go on")]
    made = plan.generate()
    assert (made.conversation, made.temperature, made.seed) == (None, 0.5, 9)
    assert plan.rule()("text", None) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": "x"}, "data.prompt"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "data.messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}, "data.messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "data.messages[0].content"),
    ],
)
def test_what_is_no_turn_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(CommandError) as refused:
        plan_of(structure({**fields, "conversation": "c"}, Generate))
    assert (refused.value.code, refused.value.field) == (ErrorCode.INVALID_FIELD, field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"content": ""}, "data.content"),
        ({"content": " \n\t"}, "data.content"),
        ({"content": "a\0b"}, "data.content"),
        ({"content": "\x7fELF\x02\x01\x01"}, "data.content"),
        ({"content": "x", "cursor": 2}, "data.cursor"),
        ({"content": "x", "cursor": -1}, "data.cursor"),
        ({"content": "x", "cursor": 0.5}, "data.cursor"),
        ({"content": "x", "language": "klingon"}, "data.language"),
        ({"content": "x", "language": ""}, "data.language"),
        ({"content": "x", "intent": "dance"}, "data.intent"),
        ({"content": "x", "conversation": "a b"}, "data.conversation"),
        ({"content": "x", "file_path": ""}, "data.file_path"),
        ({"content": None}, "data.content"),
        ({"content": ["x"]}, "data.content"),
    ],
    ids=str,
)
def test_bad_input_names_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        structure({"intent": "explain", **fields}, Assist)
    assert refused.value.field == field


def test_a_cursor_may_stand_behind_the_last_character() -> None:
    assert structure({"intent": "suggest", "content": "x", "cursor": 1}, Assist).cursor == 1
