"""P3, P4: the bookkeeping of streams, also under random cuts, merges, repetitions and lost logs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.commands import ResumePoint
from protocol.events import ResumeResult
from protocol.streams import Coverage, EventIds, Positions, Reception, StreamPosition, coverage_of, merged


def test_p3_what_begins_right_behind_is_next_and_moves_the_position() -> None:
    position = StreamPosition("s", "e", 0)
    assert position.take(Coverage(1, 1)) is Reception.NEXT
    assert position.take(Coverage(2, 5)) is Reception.NEXT
    assert position.resume_point() == ResumePoint("s", "e", 5)


@pytest.mark.parametrize(("first_seq", "seq"), [(5, 5), (3, 5), (1, 1), (1, 5)])
def test_p4_what_came_before_is_seen_and_changes_nothing(first_seq: int, seq: int) -> None:
    position = StreamPosition("s", "e", 5)
    assert position.take(Coverage(first_seq, seq)) is Reception.SEEN
    assert (position.seq, position.is_recovering) == (5, False)


@pytest.mark.parametrize(("first_seq", "seq"), [(7, 7), (7, 9), (5, 6), (1, 9)])
def test_p4_a_gap_or_a_part_that_repeats_is_a_loss(first_seq: int, seq: int) -> None:
    position = StreamPosition("s", "e", 5)
    assert position.take(Coverage(first_seq, seq)) is Reception.LOSS
    assert position.seq == 5


def test_p4_nothing_counts_between_a_loss_and_the_answer_to_its_resume() -> None:
    position = StreamPosition("s", "e", 5)
    assert position.take(Coverage(8, 8)) is Reception.LOSS
    assert position.take(Coverage(6, 6)) is Reception.LOSS
    assert position.resumed(ResumeResult(stream="s", resumed=True, head=8)) is True
    assert position.take(Coverage(6, 8)) is Reception.NEXT


def test_p4_a_snapshot_stands_for_what_is_lost() -> None:
    position = StreamPosition("s", "old", 5)
    result = ResumeResult(stream="s", resumed=False, head=40, snapshot={"seq": 39, "unread": 1})
    assert position.resumed(result, "new") is False
    assert position.resume_point() == ResumePoint("s", "new", 39)
    assert position.take(Coverage(40, 40)) is Reception.NEXT


def test_p4_without_a_snapshot_the_head_holds() -> None:
    position = StreamPosition("s", "e", 5)
    assert position.resumed(ResumeResult(stream="s", resumed=False, head=2)) is False
    assert position.seq == 2


@pytest.mark.parametrize(("first_seq", "seq"), [(0, 0), (0, 1), (3, 2), (-1, 1)])
def test_no_frame_covers_less_than_one_event(first_seq: int, seq: int) -> None:
    with pytest.raises(ValueError, match="cannot cover"):
        Coverage(first_seq, seq)


def test_the_coverage_of_a_frame_is_read_from_its_envelope() -> None:
    assert coverage_of({"seq": 4}) == Coverage(4, 4)
    assert coverage_of({"seq": 4, "first_seq": 2}) == Coverage(2, 4)


@pytest.mark.parametrize("frame", [{}, {"seq": "4"}, {"seq": True}, {"seq": 4, "first_seq": None}, {"seq": 4.0}])
def test_a_frame_without_numbers_covers_nothing(frame: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be integers"):
        coverage_of(frame)


def test_only_neighbours_merge() -> None:
    assert merged(Coverage(1, 3), Coverage(4, 4)) == Coverage(1, 4)
    for later in (Coverage(5, 6), Coverage(3, 4)):
        with pytest.raises(ValueError, match="does not follow"):
            merged(Coverage(1, 3), later)


def test_several_streams_are_followed_side_by_side() -> None:
    positions = Positions()
    positions.follow("client", "e", 7)
    positions.follow("g-1", "f").take(Coverage(1, 2))
    assert positions.resume_points() == [ResumePoint("client", "e", 7), ResumePoint("g-1", "f", 2)]
    positions.leave("g-1")
    positions.leave("g-1")
    assert positions.get("g-1") is None
    assert positions.resume_points() == [ResumePoint("client", "e", 7)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 20)), st.integers(1, 8))
def test_an_event_id_is_new_unless_it_was_among_the_last(ids: list[int], capacity: int) -> None:
    seen = EventIds(capacity)
    recent: list[int] = []
    for one in ids:
        assert seen.is_new(str(one)) is (one not in recent)
        if one in recent:
            recent.remove(one)
        recent = [*recent, one][-capacity:]


class OneServerAndOneClient(RuleBasedStateMachine):
    """A log that may lose its beginning, a wire that may be cut, repeat or drop, and a client that must miss nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.head = 0
        self.kept_from = 1
        self.epoch = 1
        self.wire: list[Coverage] = []
        self.sent = 0
        self.position = StreamPosition("s", "1", 0)
        self.received: list[int] = []
        self.snapshots: list[tuple[int, int]] = []

    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        self.head += count

    @rule(size=st.integers(1, 4))
    def send(self, size: int) -> None:
        """The server puts the next events on the wire, merged into one frame."""
        if self.sent < self.head:
            last = min(self.head, self.sent + size)
            self.wire.append(Coverage(self.sent + 1, last))
            self.sent = last

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def misdeliver(self, data: st.DataObject) -> None:
        """A frame is lost or comes twice."""
        index = data.draw(st.integers(0, len(self.wire) - 1))
        if data.draw(st.booleans()):
            del self.wire[index]
        else:
            self.wire.insert(index, self.wire[index])

    @precondition(lambda self: self.wire)
    @rule()
    def deliver(self) -> None:
        frame = self.wire.pop(0)
        match self.position.take(frame):
            case Reception.NEXT:
                self.received += range(frame.first_seq, frame.seq + 1)
            case Reception.LOSS:
                self.reconnect()
            case Reception.SEEN:
                pass

    @rule()
    def prune(self) -> None:
        self.kept_from = self.head + 1

    @rule()
    def lose_the_log(self) -> None:
        self.epoch += 1
        self.head = self.sent = 0
        self.kept_from = 1
        self.wire.clear()
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        """The client says where it stands; the server gives all that follows, or a snapshot."""
        self.wire.clear()
        point = self.position.resume_point()
        can_resume = point.epoch == str(self.epoch) and self.kept_from <= point.seq + 1 <= self.head + 1
        result = ResumeResult(
            stream="s", resumed=can_resume, head=self.head, snapshot=None if can_resume else {"seq": self.head}
        )
        assert self.position.resumed(result, str(self.epoch)) is can_resume
        if not can_resume:
            self.snapshots.append((len(self.received), self.head))
        self.sent = self.position.seq

    @invariant()
    def nothing_is_missing_and_nothing_comes_twice(self) -> None:
        """From one snapshot to the next the events are exactly those that follow the first."""
        begins = [(0, 0), *self.snapshots]
        ends = [index for index, _ in self.snapshots] + [len(self.received)]
        for (index, seq), end in zip(begins, ends, strict=True):
            part = self.received[index:end]
            assert part == list(range(seq + 1, seq + 1 + len(part)))


TestOneServerAndOneClient = OneServerAndOneClient.TestCase
TestOneServerAndOneClient.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
