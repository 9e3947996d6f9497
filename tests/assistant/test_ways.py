"""Ways of a conversation: a turn is said or answered again, and none of the ways is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import Connection

from actors.assistant import conversation_rules
from actors.assistant.assist_store import BEGIN_ASSIST, END_ASSIST, BeginAssist, BegunAssist, EndAssist
from actors.assistant.conversation_store import CHOOSE_WAY, GET_CONVERSATION, Owned
from actors.assistant.turn_tree import TurnNode, TurnTree
from actors.errors import CommandError
from actors.storage.database import open_engine
from protocol.conversations import ConversationChoose, ConversationGet
from protocol.errors import ErrorCode
from tests.assistant.kit import ask, told
from tests.database_fixture import fresh_database
from tests.postgresql_fixture import fresh_postgresql_database
from tests.server_fixture import Peer, RunningServer, count_to, eventually


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    """A transaction on a new database of each kind."""
    url = fresh_database(tmp_path) if request.param == "sqlite" else fresh_postgresql_database()
    engine = open_engine(url, writes=True)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def tree(*parents: int) -> TurnTree:
    """Turns 1, 2, … that follow these, user and assistant by turns."""
    nodes = (TurnNode(at, parent, ("assistant", "user")[at % 2], 1) for at, parent in enumerate(parents, 1))
    return TurnTree.of(nodes)


def test_a_way_is_read_from_its_end_and_its_turns_know_those_beside_them() -> None:
    # 1-2-3-4, said again behind 2 as 5-6, and from the beginning as 7-8.
    found = tree(0, 1, 2, 3, 2, 5, 0, 7)
    assert found.way_to(4) == [1, 2, 3, 4]
    assert found.way_to(6) == [1, 2, 5, 6]
    assert found.way_to(8) == [7, 8]
    assert (found.beside(3), found.beside(1), found.beside(4)) == ([3, 5], [1, 7], [4])
    assert (found.newest_end(1), found.newest_end(3), found.newest_end(7)) == (6, 4, 8)


def test_what_is_on_no_chosen_way_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_rules, "MAXIMUM_TURNS", 6)
    found = tree(0, 1, 2, 3, 2, 5, 6, 7)
    assert found.outgrown(found.way_to(8)) == {3, 4}
    assert found.outgrown(found.way_to(4)) == {5, 6, 7, 8}
    # Of a way that is too long alone the older half goes.
    long = tree(0, 1, 2, 3, 4, 5, 6)
    assert long.outgrown(long.way_to(7)) == {1, 2, 3, 4}


def begin(connection: Connection, stream: str, **fields: Any) -> None:
    command: dict[str, Any] = {
        "begun": BegunAssist(stream=stream, seed=0, prompt_tokens=1),
        "client_id": "me",
        "domain": "",
        "command_id": stream,
        "intent": None,
        "conversation": "c",
        "content": f"question {stream}",
    }
    BEGIN_ASSIST.function(connection, BeginAssist(**{**command, **fields}))


def end(connection: Connection, stream: str, text: str) -> Any:
    return END_ASSIST.function(connection, EndAssist(stream=stream, text=text, is_complete=bool(text)))


def get(connection: Connection, **fields: Any) -> Any:
    return GET_CONVERSATION.function(
        connection, Owned(client_id="me", data=ConversationGet(conversation="c", **fields))
    )


def choose(connection: Connection, turn: int) -> Any:
    return CHOOSE_WAY.function(connection, Owned(client_id="me", data=ConversationChoose(conversation="c", turn=turn)))


def numbers(connection: Connection, **fields: Any) -> list[int]:
    return [one.number for one in get(connection, **fields).turns]


def test_wa1_a_turn_that_is_said_again_keeps_the_first_way(connection: Connection) -> None:
    begin(connection, "a")
    end(connection, "a", "one")
    begin(connection, "b", expected_last_turn=2)
    end(connection, "b", "two")
    begin(connection, "again", parent=2)
    end(connection, "again", "three")
    page = get(connection)
    assert [(one.number, one.content, one.ways) for one in page.turns] == [
        (1, "question a", None),
        (2, "one", None),
        (5, "question again", [3, 5]),
        (6, "three", None),
    ]
    assert (page.conversation.turns, page.conversation.other_turns) == (4, 2)
    assert [(one.number, one.parent, one.is_beside) for one in get(connection, all_ways=True).turns] == [
        (1, None, None),
        (2, 1, None),
        (3, 2, True),
        (4, 3, True),
        (5, 2, None),
        (6, 5, None),
    ]
    outcome = choose(connection, 3)
    assert [(one.type, one.data) for one in outcome.events] == [
        ("conversation_changed", {"conversation": "c", "change": "way"})
    ]
    assert numbers(connection) == [1, 2, 3, 4]
    # What is on the chosen way already changes nothing, and tells nothing.
    assert choose(connection, 2).events == ()
    with pytest.raises(CommandError) as refused:
        choose(connection, 9)
    assert (refused.value.code, refused.value.field) == (ErrorCode.NOT_FOUND, "data.turn")


@pytest.mark.parametrize("text", ["", "half of it"])
def test_wa7_an_answer_that_ended_early_is_told_to_the_devices_that_wait(connection: Connection, text: str) -> None:
    begin(connection, "a")
    ended = END_ASSIST.function(connection, EndAssist(stream="a", text=text, is_complete=False))
    assert [(one.type, one.data) for one in ended.events] == [
        ("conversation_changed", {"conversation": "c", "change": "turns", "id": "a"})
    ]
    begin(connection, "alone", conversation=None)
    assert END_ASSIST.function(connection, EndAssist(stream="alone", text=text, is_complete=False)).events == ()


def test_wa2_an_answer_that_is_made_again_stands_beside_the_first(connection: Connection) -> None:
    begin(connection, "a")
    end(connection, "a", "one")
    begin(connection, "again", answers=1, content="")
    # Until it is there the question stands without one.
    assert numbers(connection) == [1]
    end(connection, "again", "two")
    assert [(one.content, one.ways) for one in get(connection).turns] == [("question a", None), ("two", [2, 3])]
    # One that comes to nothing leaves the answer that was there.
    begin(connection, "nothing", answers=1, content="")
    end(connection, "nothing", "")
    assert numbers(connection) == [1, 3]
    for number, code in ((2, ErrorCode.INVALID_FIELD), (9, ErrorCode.NOT_FOUND)):
        with pytest.raises(CommandError) as refused:
            begin(connection, "wrong", answers=number)
        assert (refused.value.code, refused.value.field) == (code, "data.answers")
    with pytest.raises(CommandError) as refused:
        begin(connection, "wrong", parent=9)
    assert (refused.value.code, refused.value.field) == (ErrorCode.NOT_FOUND, "data.parent")


def test_a_way_that_is_chosen_meanwhile_stays_chosen(connection: Connection) -> None:
    begin(connection, "a")
    end(connection, "a", "one")
    begin(connection, "again", parent=0)
    choose(connection, 1)
    end(connection, "again", "two")
    assert numbers(connection) == [1, 2]
    assert numbers(connection, all_ways=True) == [1, 2, 3, 4]
    # A prompt that was made of another way than the chosen one is not put behind that.
    with pytest.raises(CommandError) as refused:
        begin(connection, "late", expected_last_turn=4, expected_leaf=4)
    assert refused.value.code is ErrorCode.CONFLICT


def test_turns_are_read_from_the_end_in_pages(connection: Connection) -> None:
    for at in range(3):
        begin(connection, f"q{at}", expected_last_turn=2 * at)
        end(connection, f"q{at}", "answer")
    page = get(connection, before=7, limit=4)
    assert ([one.number for one in page.turns], page.previous, page.older) == ([3, 4, 5, 6], 3, 2)
    page = get(connection, before=3, limit=4)
    assert ([one.number for one in page.turns], page.previous, page.older) == ([1, 2], None, 0)


async def generate(peer: Peer, command_id: str, **data: Any) -> str:
    accepted = await ask(peer, "generate", command_id, {"conversation": "c", **data})
    assert accepted["type"] == "accepted", accepted
    events = await peer.stream(command_id)
    return "".join(one["data"]["text"] for one in events if one["type"] == "token")


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def turns(peer: Peer, command_id: str) -> list[tuple[int, str]]:
    answer = await ask(peer, "conversation_get", command_id, {"conversation": "c"})
    return [(one["number"], one["content"]) for one in answer["data"]["turns"]]


@pytest.mark.integration
@pytest.mark.websocket
async def test_wa3_edits_of_two_devices_are_both_kept_and_told(server: RunningServer) -> None:
    async with server.peer() as one, server.peer() as other:
        await generate(one, "a", messages=user("count to 2"))
        refusals: list[dict[str, Any]] = []

        async def edit(peer: Peer, number: int) -> None:
            data = {"conversation": "c", "parent": 0, "messages": user(f"count to {number}")}
            answer = await ask(peer, "generate", f"edit-{number}", data)
            while answer["type"] == "error":
                # One turn at a time: it says so, and is said again.
                assert answer["data"]["code"] == "conflict", answer
                refusals.append(answer)
                answer = await ask(peer, "generate", f"edit-{number}-{len(refusals)}", data)
            await peer.stream(answer["re"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(edit, one, 3)
            nursery.start_soon(edit, other, 4)
        found = await ask(one, "conversation_get", "all", {"conversation": "c", "all_ways": True})
        kept = {(turn["content"]) for turn in found["data"]["turns"]}
        assert kept == {f"count to {number}" for number in (2, 3, 4)} | {count_to(number) for number in (2, 3, 4)}
        first = [turn for turn in found["data"]["turns"] if "parent" not in turn]
        assert [turn["ways"] for turn in first] == [[turn["number"] for turn in first]] * 3
        async with server.http() as http:
            path = "/conversations/tester/c"
            whole = (await http.get(f"{path}/export")).json()
            assert {turn["content"] for turn in whole["turns"]} == kept
            plain = (await http.get(f"{path}/export", params={"format": "markdown"})).text
            listed = (await http.get(path)).json()["turns"]
        assert [turn["content"] for turn in listed] == [
            turn["content"] for turn in whole["turns"] if "is_beside" not in turn
        ]
        assert plain.count("at the beginning") == 2
        chosen = await ask(other, "conversation_choose", "w", {"conversation": "c", "turn": 1})
        assert (chosen["data"]["turns"], chosen["data"]["other_turns"]) == (2, 4)

        async def is_told() -> bool:
            return ("conversation_changed", "way") in [(kind, data.get("change")) for kind, data in await told(server)]

        await eventually(is_told)
        assert await turns(one, "chosen") == [(1, "count to 2"), (2, count_to(2))]


@pytest.mark.integration
@pytest.mark.websocket
async def test_wa4_the_model_is_shown_the_way_that_it_answers(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.assistant import context_fitting

    # The mock engine reads the last message alone, so what the engine is asked is looked at.
    prompts: list[list[str]] = []
    make = context_fitting.with_history

    def noted(*given: Any) -> Any:
        chat = make(*given)
        prompts.append([one.content for one in chat])
        return chat

    monkeypatch.setattr(context_fitting, "with_history", noted)
    async with server.peer() as peer:
        await generate(peer, "a", messages=user("count to 2"))
        await generate(peer, "b", messages=user("count to 3"))
        await generate(peer, "edit", messages=user("count to 4"), parent=2)
        assert prompts[-1] == ["count to 2", count_to(2), "count to 4"]
        assert await generate(peer, "again", answers=1) == count_to(2)
        assert prompts[-1] == ["count to 2"]
        await generate(peer, "on", messages=user("count to 5"))
        assert prompts[-1] == ["count to 2", count_to(2), "count to 5"]
        assert await turns(peer, "g") == [
            (1, "count to 2"),
            (7, count_to(2)),
            (8, "count to 5"),
            (9, count_to(5)),
        ]
        for data, field in (
            ({"messages": user("x"), "parent": 1, "answers": 1}, "data.parent"),
            ({"messages": user("x"), "answers": 1}, "data.messages"),
            ({"prompt": "x", "answers": 1}, "data.prompt"),
            ({"answers": 2}, "data.answers"),
            ({"answers": 99}, "data.answers"),
            ({"messages": user("x"), "parent": 99}, "data.parent"),
        ):
            refused = await ask(peer, "generate", f"wrong {field} {len(data)}", {"conversation": "c", **data})
            assert (refused["type"], refused["data"]["field"]) == ("error", field), refused
        refused = await ask(peer, "generate", "nowhere", {"messages": user("x"), "parent": 0})
        assert refused["data"]["field"] == "data.parent"
        assist = {"intent": "ask", "content": "other", "conversation": "c", "answers": 1}
        refused = await ask(peer, "assist", "assist", assist)
        assert refused["data"]["field"] == "data.content"
