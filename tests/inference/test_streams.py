"""Bookkeeping of streams, without an actor: replay, snapshots, followers, and what is kept after the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inference import streams as streams_module
from actors.inference.messages import GenerationCancelled, GenerationTokens, StartGeneration
from actors.inference.streams import Stream, Streams
from protocol.commands import Generate, OnDisconnect
from runtime.testing import RecordingRef


def made(
    name: str = "s", client: str = "me", on_disconnect: OnDisconnect = OnDisconnect.CANCEL, **fields: Any
) -> Stream:
    request = StartGeneration(
        client_id=client, stream=name, generate=Generate(prompt="x", seed=1, on_disconnect=on_disconnect, **fields)
    )
    return Stream(
        name=name,
        client_id=client,
        epoch="e1",
        recovery=request,
        publish=lambda subscriber, event: subscriber.tell_nowait(event),
    )


def tokens(seq: int, text: str, *ids: int, **fields: Any) -> GenerationTokens:
    return GenerationTokens(
        stream="s", seq=seq, text=text, index=seq, token_ids=ids or (seq,), log_probability=-float(seq), **fields
    )


def cancelled(seq: int) -> GenerationCancelled:
    return GenerationCancelled(stream="s", seq=seq, reason="cancelled")


def told(subscriber: RecordingRef) -> list[Any]:
    return [one.message for one in subscriber.told]


@given(texts=st.lists(st.text(min_size=1, max_size=30), max_size=30), data=st.data())
def test_p4_from_any_event_a_follower_gets_the_whole_rest_once(texts: list[str], data: st.DataObject) -> None:
    page = data.draw(st.integers(1, 100))
    stream = made()
    is_over = data.draw(st.booleans())
    for seq, text in enumerate(texts, start=1):
        stream.deliver(tokens(seq, text))
    if is_over:
        stream.deliver(cancelled(len(texts) + 1))
    after = data.draw(st.integers(0, stream.seq))
    subscriber = RecordingRef("c-1")
    got = ""
    at = after
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams_module, "PAGE_CHARACTERS", page)
        while True:
            followed = stream.subscribe(subscriber, "e1", at)
            assert (followed.resumed, followed.snapshot, followed.head) == (True, None, stream.seq)
            for event in followed.events:
                if isinstance(event, GenerationTokens):
                    assert event.first_seq == at + 1
                    assert event.token_ids == tuple(range(at + 1, event.seq + 1))
                    assert event.log_probability == -sum(range(at + 1, event.seq + 1))
                    assert event.seq == at + 1 or len(event.text) <= page
                    got += event.text
                at = event.seq
            if followed.is_live:
                break
            assert followed.events
    assert at == stream.seq
    assert got == "".join(texts[after:])
    assert stream.has_subscribers is not is_over
    if not is_over:
        stream.deliver(tokens(stream.seq + 1, "live"))
        assert [one.text for one in told(subscriber)] == ["live"]


def test_a_follower_in_the_middle_of_its_pages_is_told_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "PAGE_CHARACTERS", 2)
    stream = made()
    stream.deliver(tokens(1, "aa"))
    stream.deliver(tokens(2, "bb"))
    subscriber = RecordingRef("c-1")
    assert stream.subscribe(subscriber, "e1", 0).is_live is False
    stream.deliver(tokens(3, "cc"))
    assert told(subscriber) == []
    assert stream.has_subscribers
    assert stream.subscribe(subscriber, "e1", 1).is_live is False
    assert stream.subscribe(subscriber, "e1", 2).is_live is True
    stream.deliver(tokens(4, "dd"))
    assert [one.seq for one in told(subscriber)] == [4]


@pytest.mark.parametrize(("epoch", "after"), [("e0", 1), ("e1", 99), ("e0", 99)])
def test_p4_what_cannot_be_served_gets_a_snapshot_and_all_that_follows_it(epoch: str, after: int) -> None:
    stream = made()
    stream.deliver(tokens(1, "one "))
    stream.deliver(tokens(2, "two"))
    followed = stream.subscribe(RecordingRef("c-1"), epoch, after)
    assert (followed.resumed, followed.epoch, followed.events, followed.is_live) == (False, "e1", (), True)
    assert followed.snapshot is not None
    assert (followed.snapshot.seq, followed.snapshot.text, followed.snapshot.state) == (2, "one two", "running")


def test_p3_a_snapshot_of_an_ended_stream_leaves_its_last_event_to_be_told() -> None:
    stream = made()
    stream.deliver(tokens(1, "one"))
    stream.deliver(cancelled(2))
    followed = stream.subscribe(RecordingRef("c-1"), "other", 0)
    assert followed.snapshot is not None
    assert (followed.snapshot.seq, followed.snapshot.state, followed.events) == (1, "cancelled", (cancelled(2),))
    assert followed.is_live
    assert followed.recovery is None


def test_log_probabilities_come_again_with_the_text() -> None:
    stream = made(logprobs=1)
    stream.deliver(tokens(1, "a", logprobs=[{"token": "a"}]))
    stream.deliver(tokens(2, "b", logprobs=[{"token": "b"}]))
    event = stream.subscribe(RecordingRef("c-1"), "e1", 0).events[0]
    assert isinstance(event, GenerationTokens)
    assert event.logprobs == [{"token": "a"}, {"token": "b"}]


def test_who_heard_more_of_a_recovered_stream_than_it_knows_goes_on_with_it() -> None:
    stream = made()
    stream.is_recovered = True
    stream.deliver(tokens(1, "a"))
    followed = stream.subscribe(RecordingRef("c-1"), "e1", 7)
    assert (followed.resumed, followed.events, followed.is_live) == (True, (), True)


def test_every_follower_is_told_and_the_last_one_to_leave_is_noticed() -> None:
    kept = Streams()
    stream = made()
    kept.add(stream)
    one, two = RecordingRef("c-1"), RecordingRef("c-2")
    stream.subscribe(one, None, 0)
    stream.subscribe(two, None, 0)
    stream.deliver(tokens(1, "a"))
    assert [len(told(one)), len(told(two))] == [1, 1]
    assert kept.left("c-1") == []
    assert kept.left("c-1") == []
    assert kept.left("c-9") == []
    assert kept.left("c-2") == [stream]


def test_p5_ended_streams_are_kept_for_five_minutes() -> None:
    kept = Streams()
    stream = made()
    kept.add(stream)
    stream.deliver(cancelled(1))
    kept.ended(stream, 100.0)
    kept.expire(399.9)
    assert kept.find("s", "me") is stream
    kept.expire(400.0)
    assert kept.find("s", "me") is None
    assert (kept.ended_bytes, len(kept)) == (0, 0)


def test_p5_the_oldest_ended_streams_go_when_there_is_too_much() -> None:
    size = 4 * 1000 + 32 + 8
    kept = Streams(kept_bytes=3 * size)
    for number in range(5):
        stream = made(f"s{number}")
        kept.add(stream)
        stream.deliver(tokens(1, "x" * 1000))
        stream.deliver(cancelled(2))
        kept.ended(stream, float(number))
    assert [kept.get(f"s{number}") is not None for number in range(5)] == [False, False, True, True, True]
    assert kept.ended_bytes == 3 * size


def test_a_stream_of_another_client_is_not_there() -> None:
    kept = Streams()
    kept.add(made(client="me"))
    assert kept.find("s", "you") is None
