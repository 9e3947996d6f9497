"""The outbox merges, bounds and keeps order; what a reader sees is the same text and the same events."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.connections.outbox import ANSWER_BYTES, MAXIMUM_LAG_BYTES, MAXIMUM_LAG_EVENTS, MERGED_TEXT_BYTES, Outbox
from protocol.commands import MAXIMUM_FRAME_BYTES


def token(stream: str, seq: int, text: str = "x") -> dict[str, Any]:
    return {"type": "token", "stream": stream, "re": stream, "seq": seq, "data": {"text": text, "index": seq - 1}}


def other(stream: str | None = None, seq: int = 0, kind: str = "state") -> dict[str, Any]:
    return {"type": kind} if stream is None else {"type": kind, "stream": stream, "seq": seq}


def drain(outbox: Outbox) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while (frame := outbox.take()) is not None:
        frames.append(json.loads(frame))
    return frames


def test_an_empty_outbox_has_nothing() -> None:
    outbox = Outbox()
    assert outbox.take() is None
    assert (len(outbox), outbox.bytes) == (0, 0)


def test_a_single_token_goes_out_as_it_is() -> None:
    outbox = Outbox()
    outbox.put_token(token("s", 1, "hé"))
    assert drain(outbox) == [token("s", 1, "hé")]


def test_waiting_tokens_of_a_stream_merge_into_one() -> None:
    outbox = Outbox()
    for seq, text in enumerate(["a", "b", "é"], 1):
        outbox.put_token(token("s", seq, text))
    assert len(outbox) == 1
    assert drain(outbox) == [{**token("s", 3, "abé"), "first_seq": 1}]


def test_a_token_that_was_taken_is_merged_with_no_more() -> None:
    outbox = Outbox()
    outbox.put_token(token("s", 1))
    first = outbox.take()
    outbox.put_token(token("s", 2))
    assert first is not None
    assert json.loads(first) == token("s", 1)
    assert drain(outbox) == [token("s", 2)]


def test_streams_merge_each_for_itself_at_its_first_place() -> None:
    outbox = Outbox()
    outbox.put_token(token("a", 1, "1"))
    outbox.put_token(token("b", 1, "x"))
    outbox.put_token(token("a", 2, "2"))
    outbox.put_token(token("b", 2, "y"))
    merged = [(one["stream"], one["data"]["text"], one["first_seq"], one["seq"]) for one in drain(outbox)]
    assert merged == [("a", "12", 1, 2), ("b", "xy", 1, 2)]


def test_a_token_is_not_merged_to_before_another_event_of_its_stream() -> None:
    outbox = Outbox()
    outbox.put_token(token("s", 1, "a"))
    outbox.put(other("s", 2))
    outbox.put_token(token("s", 3, "b"))
    assert [one["seq"] for one in drain(outbox)] == [1, 2, 3]


def test_an_event_of_no_stream_does_not_stop_the_merging() -> None:
    outbox = Outbox()
    outbox.put_token(token("s", 1, "a"))
    outbox.put(other())
    outbox.put_token(token("s", 2, "b"))
    assert [one["type"] for one in drain(outbox)] == ["token", "state"]


def test_a_merged_token_never_exceeds_the_frame_limit() -> None:
    # A control character takes six bytes of JSON, the worst there is.
    outbox = Outbox(maximum_bytes=4 * MERGED_TEXT_BYTES)
    for seq in range(1, 2 * MERGED_TEXT_BYTES // 1024 + 1):
        outbox.put_token(token("s", seq, "\x01" * 1024))
    frames: list[bytes] = []
    while (frame := outbox.take()) is not None:
        frames.append(frame)
    assert len(frames) == 2
    assert max(len(frame) for frame in frames) <= MAXIMUM_FRAME_BYTES
    assert json.loads(frames[1])["first_seq"] == json.loads(frames[0])["seq"] + 1


def test_more_events_than_the_bound_are_refused() -> None:
    outbox = Outbox()
    for _ in range(MAXIMUM_LAG_EVENTS):
        outbox.put(other())
    assert not outbox.has_room(0)
    outbox.put_replayed(b"{}", "s")
    outbox.put_answer(b"{}")
    assert not outbox.has_room(0)
    outbox.take()
    assert outbox.has_room(0), "what is replayed and answers are no lag"


def test_tokens_that_merge_are_no_new_events() -> None:
    outbox = Outbox(maximum_events=1)
    for seq in range(1, 5000):
        outbox.put_token(token("s", seq))
    assert len(outbox) == 1


def test_more_bytes_than_the_bound_are_refused() -> None:
    outbox = Outbox()
    big = {"type": "pong", "data": "x" * 60_000}
    for _ in range(MAXIMUM_LAG_BYTES // 60_030):
        outbox.put(big)
    assert not outbox.has_room(60_000)
    assert outbox.has_room(MAXIMUM_LAG_BYTES - outbox.bytes)
    assert outbox.bytes <= MAXIMUM_LAG_BYTES
    assert len(outbox) == MAXIMUM_LAG_BYTES // 60_030


def test_merged_tokens_count_for_their_bytes() -> None:
    outbox = Outbox(maximum_bytes=1000)
    outbox.put_token(token("s", 1, ""))
    envelope_bytes = outbox.bytes
    for seq in range(2, 2 + (1000 - envelope_bytes) // 2):
        outbox.put_token(token("s", seq, "é"))
    assert not outbox.has_room(2)
    assert 998 < outbox.bytes <= 1000


def test_a_cleared_outbox_is_empty_and_merges_with_nothing_of_before() -> None:
    outbox = Outbox()
    outbox.put_token(token("s", 1))
    outbox.put(other())
    outbox.clear()
    assert (len(outbox), outbox.bytes, outbox.take()) == (0, 0, None)
    outbox.put_token(token("s", 2))
    assert drain(outbox) == [token("s", 2)]


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
    outbox = Outbox(maximum_bytes=10**9, maximum_events=10**9)
    seqs: dict[str, int] = {"a": 0, "b": 0, "c": 0}
    put: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    loose = 0
    for action, stream, text in plan:
        if action == "take":
            frame = outbox.take()
            if frame is not None:
                frames.append(json.loads(frame))
            continue
        if action == "loose":
            loose += 1
            outbox.put({"type": "loose", "number": loose})
            continue
        seqs[stream] += 1
        message = token(stream, seqs[stream], text) if action == "token" else other(stream, seqs[stream], "event")
        put.append(message)
        (outbox.put_token if action == "token" else outbox.put)(message)
    frames += drain(outbox)
    assert (outbox.bytes, len(outbox)) == (0, 0)
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
    outbox = Outbox()
    assert outbox.has_room_for_answer(MAXIMUM_FRAME_BYTES), "one that is large goes where none waits"
    outbox.put_answer(b"x" * (ANSWER_BYTES - 10))
    assert outbox.has_room_for_answer(10)
    assert not outbox.has_room_for_answer(11)
    assert outbox.has_room(MAXIMUM_LAG_BYTES)
    assert outbox.take() == b"x" * (ANSWER_BYTES - 10)
    assert outbox.answer_bytes == 0
    outbox.put_answer(b"x" * MAXIMUM_FRAME_BYTES)
    assert not outbox.has_room_for_answer()
    outbox.clear()
    assert outbox.has_room_for_answer(MAXIMUM_FRAME_BYTES)
