"""What the assistant puts on disk: bounds of conversations, pages, ends that come once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from actors.assistant import turn_rows
from actors.assistant.assist_store import (
    BEGIN_ASSIST,
    END_ASSIST,
    READ_WINDOW,
    RUNNING_ASSISTS,
    BeginAssist,
    BegunAssist,
    EndAssist,
    Restart,
    WindowQuery,
)
from actors.assistant.completion import CompletionRule, Dropped
from actors.assistant.conversation_rules import (
    MAXIMUM_BYTES,
    MAXIMUM_TURNS,
    StoredTurn,
    first_kept,
    half_window,
    history_of,
)
from actors.assistant.conversation_store import DELETE_CONVERSATION, GET_CONVERSATION, LIST_CONVERSATIONS, Owned
from actors.errors import CommandError
from protocol.commands import ChatMessage, Generate, Intent, OnDisconnect, Role
from protocol.conversations import ConversationDelete, ConversationGet, ConversationList
from protocol.errors import ErrorCode


def begin(connection: Connection, stream: str, **fields: Any) -> None:
    command: dict[str, Any] = {
        "begun": BegunAssist(stream=stream, seed=0, prompt_tokens=1),
        "client_id": "me",
        "domain": "",
        "command_id": stream,
        "intent": "ask",
        "conversation": "c",
        "content": f"question {stream}",
    }
    BEGIN_ASSIST.function(connection, BeginAssist(**{**command, **fields}))


def end(connection: Connection, stream: str, text: str = "answer", *, is_complete: bool = True) -> Any:
    return END_ASSIST.function(connection, EndAssist(stream=stream, text=text, is_complete=is_complete))


def turn(connection: Connection, number: int, text: str = "answer", **fields: Any) -> None:
    """A whole turn; ``number`` of those before it are turns 1 to 2 × number."""
    begin(connection, f"s{number}", expected_last_turn=2 * number, **fields)
    end(connection, f"s{number}", text)


def get(connection: Connection, **fields: Any) -> Any:
    return GET_CONVERSATION.function(
        connection, Owned(client_id="me", data=ConversationGet(conversation="c", **fields))
    )


def window(connection: Connection) -> Any:
    return READ_WINDOW.function(connection, WindowQuery(client_id="me", name="c", command_id="new"))


def test_an_end_comes_once(connection: Connection) -> None:
    begin(connection, "s")
    first = end(connection, "s")
    assert first.value is True
    assert [(one.type, one.channel, one.data["id"], one.data["analysis"]) for one in first.events] == [
        ("ai_response", "ai", "s", "answer")
    ]
    second = end(connection, "s", "another answer")
    assert (second.value, second.events) == (False, ())
    assert [one.content for one in get(connection).turns] == ["question s", "answer"]


def test_without_a_conversation_nothing_is_kept_but_the_event(connection: Connection) -> None:
    begin(connection, "s", conversation=None)
    assert end(connection, "s").events[0].data == {
        "command": "assist",
        "id": "s",
        "analysis": "answer",
        "intent": "ask",
    }
    assert LIST_CONVERSATIONS.function(connection, Owned(client_id="me", data=ConversationList())).conversations == []
    assert RUNNING_ASSISTS.function(connection, None) == ()


def test_an_answer_that_never_was_leaves_the_question_and_no_answer(connection: Connection) -> None:
    begin(connection, "s")
    assert [one.type for one in end(connection, "s", "", is_complete=False).events] == ["conversation_changed"]
    page = get(connection)
    assert [(one.number, one.content) for one in page.turns] == [(1, "question s")]
    assert page.conversation.running is None
    # The next turn goes on behind it, and the model is not shown a question without an answer.
    assert window(connection).last_turn == 1
    assert history_of(window(connection).turns) == []


def test_two_commands_of_one_moment_cannot_both_begin(connection: Connection) -> None:
    turn(connection, 0)
    with pytest.raises(CommandError) as refused:
        begin(connection, "late", expected_last_turn=0)
    assert (refused.value.code, refused.value.current) == (ErrorCode.CONFLICT, {"last_turn": 2})
    begin(connection, "next", expected_last_turn=2)
    with pytest.raises(CommandError) as refused:
        begin(connection, "second", expected_last_turn=3)
    assert refused.value.current == {"command": "next"}


def test_the_model_is_sent_again_what_it_was_sent(connection: Connection) -> None:
    turn(connection, 0, prompt="the whole prompt of the code", content="x = 1")
    assert [one.text for one in window(connection).turns] == ["the whole prompt of the code", "answer"]
    assert [one.content for one in get(connection).turns] == ["x = 1", "answer"]


def test_the_window_begins_where_the_last_prompt_did(connection: Connection) -> None:
    for number in range(3):
        turn(connection, number)
    begin(connection, "s3", expected_last_turn=6, window_start=5)
    end(connection, "s3")
    found = window(connection)
    assert ([one.number for one in found.turns], found.turns_before) == ([5, 6, 7, 8], 4)
    # All are still there to read.
    assert len(get(connection).turns) == 8


def test_the_older_half_is_forgotten_when_there_are_too_many(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.assistant import conversation_rules

    monkeypatch.setattr(conversation_rules, "MAXIMUM_TURNS", 10)
    for number in range(6):
        turn(connection, number)
    page = get(connection)
    assert [one.number for one in page.turns] == [8, 9, 10, 11, 12]
    assert (page.conversation.turns, page.conversation.forgotten_turns) == (5, 7)
    assert page.conversation.bytes == sum(len(one.content) for one in page.turns)
    # It begins with an answer, which the model is not shown without its question.
    assert history_of(window(connection).turns)[0] == ChatMessage(Role.USER, "question s4")


def test_the_rule_of_forgetting() -> None:
    assert first_kept([(number, 1) for number in range(1, MAXIMUM_TURNS + 1)]) is None
    assert first_kept([(number, 1) for number in range(1, MAXIMUM_TURNS + 2)]) == MAXIMUM_TURNS // 2 + 2
    assert first_kept([(1, MAXIMUM_BYTES), (2, 5), (3, 6)]) == 2
    # The newest stays, whatever it takes.
    assert first_kept([(1, 5), (2, MAXIMUM_BYTES + 1)]) == 2


def test_half_a_window_begins_with_the_user() -> None:
    turns = [StoredTurn(number=one, role=(Role.ASSISTANT, Role.USER)[one % 2], text="") for one in range(1, 8)]
    assert [one.number for one in half_window(turns)] == [5, 6, 7]
    assert half_window(turns[:1]) == []


def test_history_has_user_and_assistant_by_turns() -> None:
    roles = [Role.ASSISTANT, Role.USER, Role.USER, Role.ASSISTANT, Role.USER]
    turns = [StoredTurn(number=at, role=role, text=str(at)) for at, role in enumerate(roles)]
    assert history_of(turns) == [ChatMessage(Role.USER, "2"), ChatMessage(Role.ASSISTANT, "3")]


def test_a_page_is_bounded_in_bytes(connection: Connection) -> None:
    for number in range(3):
        turn(connection, number, "x" * 300_000)
    page = get(connection)
    assert [one.number for one in page.turns] == [1, 2, 3]
    page = get(connection, after=page.next)
    assert [one.number for one in page.turns] == [4, 5]
    assert get(connection, after=page.next).next is None


def test_a_client_has_so_many_conversations(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_rows, "MAXIMUM_CONVERSATIONS", 2)
    for name in "ab":
        begin(connection, name, conversation=name)
        end(connection, name)
    with pytest.raises(CommandError, match="2 conversations already"):
        begin(connection, "s", conversation="third")
    DELETE_CONVERSATION.function(connection, Owned(client_id="me", data=ConversationDelete(conversation="a")))
    begin(connection, "s", conversation="third")
    listed = LIST_CONVERSATIONS.function(connection, Owned(client_id="me", data=ConversationList()))
    assert [one.conversation for one in listed.conversations] == ["b", "third"]
    # Another client is not concerned.
    begin(connection, "other", client_id="you")


def test_a_late_answer_brings_no_deleted_conversation_back(connection: Connection) -> None:
    begin(connection, "s")
    end(connection, "s", "", is_complete=False)
    DELETE_CONVERSATION.function(connection, Owned(client_id="me", data=ConversationDelete(conversation="c")))
    assert end(connection, "s").value is False
    with pytest.raises(CommandError, match="was deleted"):
        turn_rows.find_conversation(connection, "me", "c")
    with pytest.raises(CommandError, match="was deleted"):
        begin(connection, "again")


def test_what_starts_an_answer_again_is_read_back_as_it_was(connection: Connection) -> None:
    restart = Restart(
        generate=Generate(
            messages=[ChatMessage(Role.USER, "hé")], seed=5, on_disconnect=OnDisconnect.DETACH, logit_bias={"5": 1.5}
        ),
        rule=CompletionRule(intent=Intent.DEBUG, content="x", language="go", dropped=Dropped(turns=2)),
    )
    begin(connection, "plain", conversation="a")
    begin(connection, "detached", conversation="b", domain="d", restart=restart)
    found = RUNNING_ASSISTS.function(connection, None)
    assert [(one.stream, one.domain, one.conversation, one.restart) for one in found] == [
        ("plain", "", "a", None),
        ("detached", "d", "b", restart),
    ]
