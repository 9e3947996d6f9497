"""The send queue merges, limits and keeps order; a reader sees the same text and the same events."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.connections.send_queue import (
    ANSWER_BYTES,
    MAXIMUM_LAG_BYTES,
    MAXIMUM_LAG_EVENTS,
    MERGED_TEXT_BYTES,
    SendQueue,
)
from protocol.commands import MAXIMUM_FRAME_BYTES


def token(stream: str, seq: int, text: str = "x") -> dict[str, Any]:
    return {"type": "token", "stream": stream, "re": stream, "seq": seq, "data": {"text": text, "index": seq - 1}}


def other(stream: str | None = None, seq: int = 0, kind: str = "state") -> dict[str, Any]:
    return {"type": kind} if stream is None else {"type": kind, "stream": stream, "seq": seq}


def drain(send_queue: SendQueue) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while (frame := send_queue.take()) is not None:
        frames.append(json.loads(frame))
    return frames


def test_an_empty_outbox_has_nothing() -> None:
    send_queue = SendQueue()
    assert send_queue.take() is None
    assert (len(send_queue), send_queue.bytes) == (0, 0)


def test_a_single_token_goes_out_as_it_is() -> None:
    send_queue = SendQueue()
    send_queue.put_token(token("s", 1, "hé"))
    assert drain(send_queue) == [token("s", 1, "hé")]


def test_waiting_tokens_of_a_stream_merge_into_one() -> None:
    send_queue = SendQueue()
    for seq, text in enumerate(["a", "b", "é"], 1):
        send_queue.put_token(token("s", seq, text))
    assert len(send_queue) == 1
    assert drain(send_queue) == [{**token("s", 3, "abé"), "first_seq": 1}]


def test_a_token_that_was_taken_is_merged_with_no_more() -> None:
    send_queue = SendQueue()
    send_queue.put_token(token("s", 1))
    first = send_queue.take()
    send_queue.put_token(token("s", 2))
    assert first is not None
    assert json.loads(first) == token("s", 1)
    assert drain(send_queue) == [token("s", 2)]


def test_streams_merge_each_for_itself_at_its_first_place() -> None:
    send_queue = SendQueue()
    send_queue.put_token(token("a", 1, "1"))
    send_queue.put_token(token("b", 1, "x"))
    send_queue.put_token(token("a", 2, "2"))
    send_queue.put_token(token("b", 2, "y"))
    merged = [(one["stream"], one["data"]["text"], one["first_seq"], one["seq"]) for one in drain(send_queue)]
    assert merged == [("a", "12", 1, 2), ("b", "xy", 1, 2)]


def test_a_token_is_not_merged_to_before_another_event_of_its_stream() -> None:
    send_queue = SendQueue()
    send_queue.put_token(token("s", 1, "a"))
    send_queue.put(other("s", 2))
    send_queue.put_token(token("s", 3, "b"))
    assert [one["seq"] for one in drain(send_queue)] == [1, 2, 3]


def test_an_event_of_no_stream_does_not_stop_the_merging() -> None:
    send_queue = SendQueue()
    send_queue.put_token(token("s", 1, "a"))
    send_queue.put(other())
    send_queue.put_token(token("s", 2, "b"))
    assert [one["type"] for one in drain(send_queue)] == ["token", "state"]


def test_a_merged_token_never_exceeds_the_frame_limit() -> None:
    # A control character takes six bytes as JSON, the worst case.
    send_queue = SendQueue(maximum_bytes=4 * MERGED_TEXT_BYTES)
    for seq in range(1, 2 * MERGED_TEXT_BYTES // 1024 + 1):
        send_queue.put_token(token("s", seq, "\x01" * 1024))
    frames: list[bytes] = []
    while (frame := send_queue.take()) is not None:
        frames.append(frame)
    assert len(frames) == 2
    assert max(len(frame) for frame in frames) <= MAXIMUM_FRAME_BYTES
    assert json.loads(frames[1])["first_seq"] == json.loads(frames[0])["seq"] + 1


def test_more_events_than_the_bound_are_refused() -> None:
    send_queue = SendQueue()
    for _ in range(MAXIMUM_LAG_EVENTS):
        send_queue.put(other())
    assert not send_queue.has_room(0)
    send_queue.put_replayed(b"{}", "s")
    send_queue.put_reply(b"{}")
    assert not send_queue.has_room(0)
    send_queue.take()
    assert send_queue.has_room(0), "what is replayed and answers are no lag"


def test_tokens_that_merge_are_no_new_events() -> None:
    send_queue = SendQueue(maximum_events=1)
    for seq in range(1, 5000):
        send_queue.put_token(token("s", seq))
    assert len(send_queue) == 1


def test_more_bytes_than_the_bound_are_refused() -> None:
    send_queue = SendQueue()
    big = {"type": "pong", "data": "x" * 60_000}
    for _ in range(MAXIMUM_LAG_BYTES // 60_030):
        send_queue.put(big)
    assert not send_queue.has_room(60_000)
    assert send_queue.has_room(MAXIMUM_LAG_BYTES - send_queue.bytes)
    assert send_queue.bytes <= MAXIMUM_LAG_BYTES
    assert len(send_queue) == MAXIMUM_LAG_BYTES // 60_030


def test_merged_tokens_count_for_their_bytes() -> None:
    send_queue = SendQueue(maximum_bytes=1000)
    send_queue.put_token(token("s", 1, ""))
    envelope_bytes = send_queue.bytes
    for seq in range(2, 2 + (1000 - envelope_bytes) // 2):
        send_queue.put_token(token("s", seq, "é"))
    assert not send_queue.has_room(2)
    assert 998 < send_queue.bytes <= 1000


def test_a_cleared_outbox_is_empty_and_merges_with_nothing_of_before() -> None:
    send_queue = SendQueue()
    send_queue.put_token(token("s", 1))
    send_queue.put(other())
    send_queue.clear()
    assert (len(send_queue), send_queue.bytes, send_queue.take()) == (0, 0, None)
    send_queue.put_token(token("s", 2))
    assert drain(send_queue) == [token("s", 2)]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("token"), st.sampled_from("abc"), st.text(max_size=4)),
        st.tuples(st.just("event"), st.sampled_from("abc"), st.just("")),
        st.tuples(st.just("loose"), st.just(""), st.just("")),
        st.tuples(st.just("take"), st.just(""), st.just("")),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps)
def test_whatever_is_merged_the_reader_gets_the_same(plan: list[tuple[str, str, str]]) -> None:
    send_queue = SendQueue(maximum_bytes=10**9, maximum_events=10**9)
    seqs: dict[str, int] = {"a": 0, "b": 0, "c": 0}
    put: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    loose = 0
    for action, stream, text in plan:
        if action == "take":
            frame = send_queue.take()
            if frame is not None:
                frames.append(json.loads(frame))
            continue
        if action == "loose":
            loose += 1
            send_queue.put({"type": "loose", "number": loose})
            continue
        seqs[stream] += 1
        message = token(stream, seqs[stream], text) if action == "token" else other(stream, seqs[stream], "event")
        put.append(message)
        (send_queue.put_token if action == "token" else send_queue.put)(message)
    frames += drain(send_queue)
    assert (send_queue.bytes, len(send_queue)) == (0, 0)
    assert [one["number"] for one in frames if one["type"] == "loose"] == list(range(1, loose + 1))
    for stream, last in seqs.items():
        mine = [one for one in frames if one.get("stream") == stream]
        expected = 0
        for one in mine:
            assert one.get("first_seq", one["seq"]) == expected + 1
            assert "first_seq" not in one or one["first_seq"] < one["seq"]
            expected = one["seq"]
            if one["type"] == "token":
                covered = [
                    message
                    for message in put
                    if message.get("stream") == stream
                    and one.get("first_seq", one["seq"]) <= message["seq"] <= one["seq"]
                ]
                assert all(message["type"] == "token" for message in covered)
                assert one["data"]["text"] == "".join(message["data"]["text"] for message in covered)
                assert one["data"]["index"] == covered[-1]["data"]["index"]
        assert expected == last


def test_answers_have_room_of_their_own() -> None:
    send_queue = SendQueue()
    assert send_queue.has_room_for_reply(MAXIMUM_FRAME_BYTES), "one that is large goes where none waits"
    send_queue.put_reply(b"x" * (ANSWER_BYTES - 10))
    assert send_queue.has_room_for_reply(10)
    assert not send_queue.has_room_for_reply(11)
    assert send_queue.has_room(MAXIMUM_LAG_BYTES)
    assert send_queue.take() == b"x" * (ANSWER_BYTES - 10)
    assert send_queue.reply_bytes == 0
    send_queue.put_reply(b"x" * MAXIMUM_FRAME_BYTES)
    assert not send_queue.has_room_for_reply()
    send_queue.clear()
    assert send_queue.has_room_for_reply(MAXIMUM_FRAME_BYTES)
