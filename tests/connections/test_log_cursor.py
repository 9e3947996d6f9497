"""Bookkeeping of the stream `client`: a model of the server's and a client's position, under any order of live and read."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.connections.keepalive import TimingWheel
from actors.connections.log_cursor import LogCursor, Next, can_resume
from actors.storage.messages import LogPage, StoredEvent
from protocol.commands import Subscribe
from protocol.events import Priority, ResumeResult
from protocol.streams import Reception, StreamPosition, coverage_of

CHANNELS = ("tasks", "ai")


def stored(seq: int, channel: str = "tasks", priority: Priority = Priority.MEDIUM) -> StoredEvent:
    return StoredEvent(
        client_id="me", seq=seq, type="e", channel=channel, priority=priority, time_ms=0, data=b'{"n":%d}' % seq
    )


class ServerAndClient(RuleBasedStateMachine):
    """A log, one connection's position in it, and a client that knows only the protocol's rule."""

    @initialize(
        channels=st.sampled_from([None, ["ai"], ["tasks"]]),
        least=st.sampled_from(list(Priority)),
        batch_ms=st.sampled_from([0, 0, 500]),
    )
    def begin(self, channels: list[str] | None, least: Priority, batch_ms: int) -> None:
        self.log: list[StoredEvent] = []
        self.oldest = 1
        self.told: list[int] = []
        self.subscription = Subscribe(channels=channels, min_priority=least, batch_ms=batch_ms)
        self.cursor = LogCursor(subscription=self.subscription)
        self.cursor.begin("e", 0)
        self.client = StreamPosition("client", "e", 0)
        self.received: list[int] = []
        self.lost_before = 0
        self.is_connected = True

    @rule(count=st.integers(1, 5), channel=st.sampled_from(CHANNELS), priority=st.sampled_from(list(Priority)))
    def commit(self, count: int, channel: str, priority: Priority) -> None:
        for _ in range(count):
            self.log.append(stored(len(self.log) + 1, channel, priority))

    @precondition(lambda self: bool(self.log))
    @rule(data=st.data())
    def tell_live(self, data: st.DataObject) -> None:
        """Deliver any event, possibly twice or out of order: everything that a relay and a registry could do wrong."""
        seq = data.draw(st.integers(max(1, len(self.log) - 3), len(self.log)))
        if not self.is_connected:
            return
        match self.cursor.judge(self.log[seq - 1]):
            case Next.SEND:
                self._receive(self.cursor.take(self.log[seq - 1]))
            case Next.READ | Next.READ_LATER:
                self.read_all(size=3)
            case Next.NOTHING:
                pass

    @rule(size=st.integers(1, 4))
    def read_all(self, size: int) -> None:
        if not self.is_connected:
            return
        while self.cursor.seq < len(self.log):
            if not can_resume(self._page(), "e", self.cursor.seq):
                self.is_connected = False  # closed; the client reconnects
                return
            events = [one for one in self.log[self.cursor.seq :] if one.seq >= self.oldest][:size]
            assert events
            if self.cursor.is_paced:
                self._receive(self.cursor.take_together(events))
            else:
                for event in events:
                    self._receive(self.cursor.take(event))

    @rule()
    def cut(self) -> None:
        self.is_connected = False

    @precondition(lambda self: not self.is_connected)
    @rule()
    def come_back(self) -> None:
        page = self._page()
        point = self.client.resume_point()
        self.cursor = LogCursor(subscription=self.subscription)
        if can_resume(page, point.epoch, point.seq):
            self.cursor.begin("e", point.seq)
            assert self.client.resumed(ResumeResult(stream="client", resumed=True, head=page.head))
        else:
            assert self.oldest - 1 > point.seq, "refused though the log has it all"
            self.cursor.begin("e", page.head)
            snapshot = {"seq": page.head, "unread": 0, "task_count": 0}
            result = ResumeResult(stream="client", resumed=False, head=page.head, snapshot=snapshot)
            assert not self.client.resumed(result)
            self.lost_before = page.head  # the client reloads what is older
        self.is_connected = True

    @rule(count=st.integers(0, 5))
    def prune(self, count: int) -> None:
        self.oldest = min(len(self.log) + 1, self.oldest + count)

    def _page(self) -> LogPage:
        return LogPage(epoch="e", head=len(self.log), oldest=self.oldest, events=())

    def _receive(self, frame: bytes | None) -> None:
        if frame is None:
            return
        message: dict[str, Any] = json.loads(frame)
        assert self.client.take(coverage_of(message)) is Reception.NEXT
        events = message["data"]["events"] if message["type"] == "events" else [message]
        self.received += [one["data"]["n"] for one in events]

    @invariant()
    def p4_nothing_is_lost_and_nothing_repeated(self) -> None:
        if not hasattr(self, "log"):
            return
        wanted = [
            event.seq
            for event in self.log[: self.client.seq]
            if event.seq > self.lost_before and self.subscription.wants(event.channel, event.priority)
        ]
        assert [seq for seq in self.received if seq > self.lost_before] == wanted
        assert len(set(self.received)) == len(self.received)


ServerAndClient.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestServerAndClient = ServerAndClient.TestCase


def test_critical_is_urgent_only_where_it_is_wanted() -> None:
    cursor = LogCursor(subscription=Subscribe(channels=["ai"], batch_ms=500))
    assert cursor.judge(stored(1, "tasks", Priority.CRITICAL)) is Next.READ_LATER
    assert cursor.judge(stored(2, "ai", Priority.CRITICAL)) is Next.READ


def test_fr8_what_was_forgotten_is_covered_by_no_frame_and_counts_as_left_out() -> None:
    """So the client sees the gap, and acknowledging later events does not confirm those never sent."""
    cursor = LogCursor()
    cursor.begin("e", 3)
    cursor.skip_forgotten(7)
    frame = json.loads(cursor.take(stored(7)) or b"")
    assert (frame["seq"], frame.get("first_seq")) == (7, None)
    assert (cursor.begun, cursor.skipped) == (3, (4, 5, 6))
    cursor.skip_forgotten(5000)
    assert cursor.skipped == tuple(range(4000, 5000))


def test_a_rate_spaces_frames() -> None:
    cursor = LogCursor(subscription=Subscribe(max_events_per_second=4))
    cursor.sent(10.0)
    assert cursor.delay_seconds(10.1) == pytest.approx(0.15)
    assert cursor.delay_seconds(11.0) == 0.0


def test_p11_the_wheel_names_everybody_once_and_in_time() -> None:
    wheel = TimingWheel(slots=8)
    wheel.put("a", 1)
    wheel.put("b", 2.5)
    wheel.put("c", 2)
    wheel.put("c", 5)
    wheel.put("gone", 1)
    wheel.remove("gone")
    assert [wheel.turn() for _ in range(6)] == [["a"], [], ["b"], [], ["c"], []]
    assert len(wheel) == 0
    wheel.put("far", 100)
    assert [wheel.turn() for _ in range(7)][-1] == ["far"]
