"""What is written in the transaction of a cause, and what becomes of what was held."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from actors.notifications import acks as acknowledging
from actors.notifications.acks import ACKNOWLEDGE, Acknowledged, Acknowledgements, StreamBegun, prune_settled
from actors.notifications.outbox import RELEASE, ReleaseClient
from actors.notifications.store import COUNT, LIST, Listing
from actors.refusals import CommandRefused
from actors.storage.messages import Operation, Outcome, Trigger
from protocol.errors import ErrorCode
from protocol.events import Priority
from protocol.notifications import NotificationList
from tests.notifications.store_kit import START_MS, Room

TASK = {"task_id": "t-1", "title": "Write the parser", "status": "in_progress", "anything": ["else"]}
HOUR_MS = 3_600_000
QUIET = {"start": "14:00", "end": "15:00", "timezone": "UTC"}
"""The rooms' clock starts at 14:13."""


def acknowledge(room: Room, seq: int, device_id: str = "laptop", client_id: str = "me") -> Any:
    entries = (Acknowledged(client_id, device_id, seq, room.now_ms),)
    return room.transact(ACKNOWLEDGE, Acknowledgements(entries), client_id)


def release(room: Room, client_id: str = "me") -> None:
    room.transact(RELEASE, ReleaseClient(client_id), client_id)


def test_a_trigger_becomes_a_notification_in_the_log_and_one_delivery_for_each_device(room: Room) -> None:
    room.register("phone")
    room.register("tablet")
    room.cause(Trigger(kind="task_blocked", data={"task": TASK}))
    (event,) = room.events
    assert (event.type, event.channel, event.priority, event.seq) == ("notification", "notifications", Priority.HIGH, 1)
    told = json.loads(event.data)["notification"]
    assert told["title"] == "Task blocked: Write the parser"
    assert told["data"] == {"task_id": "t-1", "status": "in_progress"}
    assert [one.notification_id for one in room.device_queue("phone").items] == [told["notification_id"]]
    assert room.state(told["notification_id"], "") == "sent"
    assert room.look().device_queues == (("web_push", "me", "phone"), ("web_push", "me", "tablet"))


@pytest.mark.parametrize(
    "kind", ["task_created", "task_moved", "task_blocked", "approval_needed", "due_soon", "analysis_done"]
)
def test_every_kind_that_the_tasks_room_tells_has_its_text(room: Room, kind: str) -> None:
    room.cause(Trigger(kind=kind, data={"task": TASK, "detail": "three findings"}))
    assert "Write the parser" in room.told()[0]


@pytest.mark.parametrize("is_own_action", [True, False])
def test_te29_what_the_client_did_itself_is_told_and_not_unread(room: Room, is_own_action: bool) -> None:
    room.register("phone")
    room.cause(Trigger(kind="task_moved", data={"task": TASK}, is_own_action=is_own_action))
    assert room.told() == ["Task moved: Write the parser"]
    (listed,) = room.read(LIST, Listing(client_id="me", data=NotificationList())).notifications
    assert (listed.read_at is not None) is is_own_action
    assert room.read(COUNT, "me").unread == (0 if is_own_action else 1)
    assert len(room.device_queue("phone").items) == 1


def test_a_refused_cause_leaves_no_notification(room: Room) -> None:
    def refuse(*_: object) -> Outcome[int]:
        raise CommandRefused(ErrorCode.CONFLICT, "no")

    with pytest.raises(CommandRefused):
        room.transact(Operation("refuse", refuse, int), None)
    assert room.events == []
    assert room.read(COUNT, "me").total == 0


def test_a_trigger_that_makes_no_sense_undoes_nothing_of_its_cause(room: Room) -> None:
    room.cause(
        Trigger(kind="no_such_kind", data={}),
        Trigger(kind="task_moved", data={"task": {"title": 5}}),
        Trigger(kind="task_moved", data={"task": {**TASK, "title": "x" * 9000}}),
    )
    assert len(room.told()) == 1
    assert len(room.told()[0]) == 200


def test_texts_are_in_the_language_of_client_and_device(room: Room) -> None:
    room.register("phone", locale="de-AT")
    room.cause(Trigger(kind="task_blocked", data={"task": TASK}))
    assert room.told() == ["Task blocked: Write the parser"]
    assert room.device_queue("phone").locale == "de-AT"
    room.prefer(locale="de")
    room.cause(Trigger(kind="task_blocked", data={"task": TASK}))
    assert room.told()[1] == "Aufgabe blockiert: Write the parser"


def test_what_a_client_does_not_want_is_kept_for_its_history_with_the_reason(room: Room) -> None:
    room.register()
    room.prefer(min_priority="high")
    name = room.post("quiet", Priority.LOW)
    assert room.told() == []
    assert room.state(name, "") == room.state(name) == "discarded (not wanted: min_priority)"
    assert room.read(COUNT, "me").unread == 0


def test_a_device_narrows_what_its_client_wants(room: Room) -> None:
    room.register("phone")
    room.register("tablet")
    room.prefer("phone", event_types=["build_failure"])
    name = room.post("hello")
    assert room.state(name, "phone") == "discarded (not wanted: event_type)"
    assert room.state(name, "tablet") == "pending"
    assert room.told() == ["hello"]


def test_quiet_hours_hold_back_all_but_critical_and_tell_it_afterwards_in_order(room: Room) -> None:
    room.register()
    room.prefer(quiet_hours=QUIET)
    names = [room.post("one"), room.post("two")]
    room.post("fire", Priority.CRITICAL)
    assert room.told() == ["fire"]
    assert room.state(names[0]) == room.state(names[1], "") == "held (quiet_hours)"
    room.now_ms += 40 * 60_000
    assert room.look().clients == ()
    assert room.look().next_ms == START_MS // HOUR_MS * HOUR_MS + HOUR_MS
    room.now_ms = START_MS // HOUR_MS * HOUR_MS + HOUR_MS
    assert room.look().clients == ("me",)
    release(room)
    assert room.told() == ["fire", "one", "two"]
    assert [one.fields["title"] for one in room.device_queue().items] == ["one", "two", "fire"]
    release(room)
    assert room.told() == ["fire", "one", "two"]


def test_what_is_over_the_rate_is_told_as_one_digest(room: Room) -> None:
    room.register()
    room.prefer(rate_limit={"count": 2, "seconds": 60})
    names = [room.post(f"n{number}") for number in range(9)]
    room.post("fire", Priority.CRITICAL)
    assert room.told() == ["n0", "n1", "fire"]
    assert room.state(names[2]) == "held (rate_limit)"
    room.now_ms += 61_000
    # It came when there was room again, but may not overtake the others.
    late = room.post("late")
    assert room.state(late) == "held (rate_limit)"
    release(room)
    assert room.told()[3:] == ["8 more notifications"]
    digest = room.device_queue().items[-1]
    assert (digest.kind, digest.fields["count"]) == ("digest", 8)
    assert digest.fields["titles"] == "n2 · n3 · n4 · n5 · n6 …"
    assert room.state(names[8]) == room.state(late) == "digested (rate_limit)"
    # A digest is no notification of its own.
    page = room.read(LIST, Listing(client_id="me", data=NotificationList()))
    assert len(page.notifications) == page.unread == 11


def test_a_single_one_over_the_rate_is_told_as_it_is(room: Room) -> None:
    room.prefer(rate_limit={"count": 1, "seconds": 60})
    room.post("one")
    room.post("two")
    room.now_ms += 60_000
    release(room)
    assert room.told() == ["one", "two"]


def test_a_digest_that_comes_due_in_quiet_hours_waits_for_their_end(room: Room) -> None:
    room.prefer(rate_limit={"count": 1, "seconds": 60})
    names = [room.post(f"n{number}") for number in range(3)]
    room.prefer(rate_limit={"count": 1, "seconds": 60}, quiet_hours=QUIET)
    room.now_ms += 61_000
    release(room)
    assert room.state(names[2], "") == "held (rate_limit)"
    room.now_ms = START_MS // HOUR_MS * HOUR_MS + HOUR_MS
    release(room)
    assert room.told() == ["n0", "2 more notifications"]


def test_new_preferences_are_asked_again_for_what_is_held(room: Room) -> None:
    room.prefer(quiet_hours=QUIET)
    kept, muted = room.post("kept", Priority.HIGH), room.post("muted", Priority.LOW)
    room.prefer(min_priority="medium")
    release(room)
    assert room.told() == ["kept"]
    assert (room.state(kept, ""), room.state(muted, "")) == ("sent", "discarded (not wanted: min_priority)")


def test_a_push_waits_while_another_device_is_awake_and_goes_out_if_that_does_not_show_it(room: Room) -> None:
    room.push_hold_seconds = 10
    room.register()
    room.post("before")
    acknowledge(room, 1)
    seen, unseen = room.post("seen"), room.post("unseen")
    urgent = room.post("fire", Priority.CRITICAL)
    assert room.state(seen) == "held (seen_elsewhere)"
    assert room.state(urgent) == "pending"
    room.now_ms += 1_000
    acknowledge(room, 2)
    room.now_ms += 9_000
    release(room)
    assert room.state(seen) == "discarded (seen_elsewhere)"
    assert room.state(unseen) == "pending"
    room.now_ms += 60_000
    assert room.state(room.post("asleep")) == "pending"


def test_a_device_that_only_came_is_not_taken_for_one_that_is_looked_at(room: Room) -> None:
    room.push_hold_seconds = 10
    room.register()
    first = room.post("before")
    room.transact(ACKNOWLEDGE, Acknowledgements((StreamBegun("me", "laptop", 1),)))
    assert room.state(room.post("n")) == "pending"
    assert acknowledge(room, 2) == 1
    assert room.state(first, "") == "sent"


def test_reading_a_notification_makes_its_held_push_superfluous(room: Room) -> None:
    from actors.notifications.store import READ, Marking

    room.push_hold_seconds = 10
    room.register()
    acknowledge(room, 0)
    name = room.post("read")
    room.transact(READ, Marking(client_id="me", device_id="laptop", notification_ids=(name,)))
    room.now_ms += 10_000
    release(room)
    assert room.state(name) == "discarded (seen_elsewhere)"


def test_an_acknowledgement_marks_everything_up_to_it_for_that_device_alone(room: Room) -> None:
    names = [room.post(f"n{number}") for number in range(4)]
    room.now_ms += 50
    assert acknowledge(room, 3, "laptop") == 3
    assert [room.state(name, "") for name in names] == ["delivered"] * 3 + ["sent"]
    assert room.state(names[2], "laptop") == "delivered"
    assert acknowledge(room, 3, "laptop") == 0
    assert acknowledge(room, 4, "watch") == 4
    assert acknowledge(room, 4, "laptop") == 1
    # A log that was lost begins at 1 again.
    with room.engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))
        connection.execute(text("UPDATE client_logs SET head = 0"))
    fresh = room.post("fresh")
    assert acknowledge(room, 1, "laptop") == 1
    assert room.state(fresh, "laptop") == "delivered"


def known_devices(room: Room) -> list[str]:
    with room.engine.begin() as connection:
        named = connection.execute(text("SELECT device_id FROM notification_acknowledgements ORDER BY device_id"))
        return [row.device_id for row in named]


def prune(room: Room) -> int:
    with room.engine.begin() as connection:
        return prune_settled(connection, room.now_ms)


def test_a_device_is_forgotten_once_nothing_is_left_up_to_what_it_has(room: Room) -> None:
    names = [room.post(f"n{number}") for number in range(3)]
    acknowledge(room, 1, "one")
    acknowledge(room, 2, "two")
    room.transact(ACKNOWLEDGE, Acknowledgements((StreamBegun("me", "came", 1),)))
    room.now_ms += 3 * 3_600_000
    assert prune(room) == 0
    with room.engine.begin() as connection:
        connection.execute(text("DELETE FROM events WHERE seq <= 1"))
    assert prune(room) == 2
    assert known_devices(room) == ["two"]
    # What comes of an `ack` is what came of it before.
    assert acknowledge(room, 3, "one") == 2
    assert [room.state(name, "one") for name in names] == ["delivered"] * 3


def test_a_device_that_acknowledged_just_now_is_not_forgotten(room: Room) -> None:
    room.push_hold_seconds = 10
    room.register()
    room.post("before")
    acknowledge(room, 1)
    with room.engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))
    room.now_ms += 5_000
    assert prune(room) == 0
    # Somebody is looking at it.
    assert room.state(room.post("n")) == "held (seen_elsewhere)"


def test_of_too_many_devices_those_that_were_silent_longest_are_forgotten(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledging, "MAXIMUM_DEVICES", 3)
    name = room.post("n")
    room.transact(ACKNOWLEDGE, Acknowledgements((StreamBegun("me", "came", 1),)))
    for number in range(5):
        room.now_ms += 1000
        acknowledge(room, 1, f"d{number}")
    assert known_devices(room) == ["d2", "d3", "d4"]
    # Nor is it kept of more of them that they have it.
    with room.engine.begin() as connection:
        told = connection.execute(text("SELECT device_id FROM notification_deliveries ORDER BY device_id")).scalars()
        assert told.all() == ["", "d0", "d1", "d2"]
    assert room.state(name, "") == "delivered"


def test_clients_do_not_see_each_other(room: Room) -> None:
    room.register(client_id="other")
    room.post("mine")
    assert room.told("other") == []
    assert room.device_queue(client_id="other").items == ()
    assert acknowledge(room, 1, client_id="other") == 0


def test_numbers_run_per_client_without_holes(room: Room) -> None:
    for title in ("a", "b"):
        room.post(title)
        room.post(title, client_id="other")
    with room.engine.begin() as connection:
        rows = connection.execute(text("SELECT client_id, number FROM notifications ORDER BY 1, 2")).all()
    assert [tuple(row) for row in rows] == [("me", 1), ("me", 2), ("other", 1), ("other", 2)]
