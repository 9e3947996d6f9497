"""The outbox: order for each device, results, retries, giving up, devices that are gone, pruning."""

from typing import Any

import pytest

from actors.notifications.delivery_rules import Attempt, RetrySchedule
from actors.notifications.history import DEAD_LETTERS, RESEND, Page, Resending
from actors.notifications.outbox import (
    DUE_DELIVERIES,
    READ_DEVICE_QUEUE,
    RECORD,
    DeviceQueueQuery,
    DueDeliveriesQuery,
    Results,
    prune_notifications,
)
from actors.notifications.store import REMOVE, OfDevice
from protocol.notifications import Channel
from tests.notifications.store_kit import SUBSCRIPTION, Room

SENT = Attempt(is_sent=True)
SCHEDULE = RetrySchedule(base_seconds=10, jitter=0, maximum_attempts=3)


def record(room: Room, *attempts: tuple[str, Attempt], address: str = SUBSCRIPTION["endpoint"]) -> Any:  # type: ignore[assignment]
    return room.transact(
        RECORD,
        Results(
            client_id="me",
            device_id="phone",
            channel=Channel.WEB_PUSH,
            address=address,
            attempts=attempts,
            schedule=SCHEDULE,
        ),
    )


def titles(room: Room) -> list[str]:
    return [str(one.fields["title"]) for one in room.device_queue().items]


def test_a_lane_is_read_in_order_in_bounded_pages(room: Room) -> None:
    room.register()
    names = [room.post(f"n{number}") for number in range(40)]
    assert titles(room) == [f"n{number}" for number in range(16)]
    assert record(room, *((name, SENT) for name in names[:16])).due_ms == room.now_ms
    assert titles(room)[0] == "n16"
    assert room.device_queue().badge == 40
    record(room, *((name, SENT) for name in names[16:]))
    assert room.look().device_queues == ()
    room.post("later")
    assert room.look().device_queues == (("web_push", "me", "phone"),)


def test_a_failure_makes_the_whole_device_wait_so_that_nothing_overtakes(room: Room) -> None:
    room.register()
    first, second = room.post("first"), room.post("second")
    assert record(room, (first, Attempt(reason="HTTP 500"))).due_ms == room.now_ms + 10_000
    room.post("third")
    assert room.look().device_queues == ()
    assert room.look().next_ms == room.now_ms + 10_000
    assert room.state(first) == "pending (HTTP 500)"
    room.now_ms += 10_000
    assert room.look().device_queues == (("web_push", "me", "phone"),)
    assert titles(room) == ["first", "second", "third"]
    assert room.device_queue().items[0].attempts == 1
    record(room, (first, SENT), (second, SENT))
    assert titles(room) == ["third"]


def test_the_services_own_wait_is_kept_to(room: Room) -> None:
    room.register()
    name = room.post("n")
    due_ms = record(room, (name, Attempt(reason="HTTP 429", retry_after_seconds=77))).due_ms
    assert due_ms == room.now_ms + 77_000


def test_after_its_attempts_a_delivery_is_discarded_with_the_reason_and_the_next_is_tried(room: Room) -> None:
    room.register()
    name, after = room.post("n"), room.post("after")
    for _ in range(2):
        room.now_ms = record(room, (name, Attempt(reason="HTTP 503"))).due_ms
    assert record(room, (name, Attempt(reason="HTTP 503"))).due_ms == room.now_ms
    assert room.state(name) == "discarded (given up after 3 attempts: HTTP 503)"
    assert [one.notification_id for one in room.device_queue().items] == [after]


def test_dead_letters_are_listed_and_sent_again_with_all_attempts(room: Room) -> None:
    room.register()
    names = [room.post(f"n{number}") for number in range(3)]
    record(
        room,
        (names[0], Attempt(is_final=True, reason="HTTP 413")),
        (names[1], SENT),
        (names[2], Attempt(is_final=True, reason="HTTP 400")),
    )
    page = room.read(DEAD_LETTERS, Page(client_id="me", limit=1))
    assert [(one.notification.title, one.reason, one.state.value) for one in page.dead_letters] == [
        ("n2", "HTTP 400", "dead")
    ]
    page = room.read(DEAD_LETTERS, Page(client_id="me", cursor=page.next))
    assert [one.notification.title for one in page.dead_letters] == ["n0"]
    assert page.next is None
    assert room.transact(RESEND, Resending(client_id="me", notification_id=names[0])).resent == 1
    assert room.transact(RESEND, Resending(client_id="me", notification_id=names[1])).resent == 0
    assert room.look().device_queues == (("web_push", "me", "phone"),)
    assert [(one.notification_id, one.attempts) for one in room.device_queue().items] == [(names[0], 0)]
    assert room.transact(RESEND, Resending(client_id="other", notification_id=names[2])).resent == 0


def test_a_subscription_that_is_gone_is_removed_and_said_so(room: Room) -> None:
    room.register("phone")
    room.register("tablet")
    names = [room.post("one"), room.post("two")]
    record(room, (names[0], Attempt(is_gone=True, reason="HTTP 410")))
    assert room.read(READ_DEVICE_QUEUE, DeviceQueueQuery(client_id="me", device_id="phone")) is None
    assert room.state(names[0]) == room.state(names[1]) == "discarded (the subscription is gone)"
    assert room.told()[-1] == "Push to phone has ended"
    assert titles_of_tablet(room)[-1] == "device_removed"
    assert len(room.read(DEAD_LETTERS, Page(client_id="me")).dead_letters) == 2
    # Its device is not there: nothing can be sent again.
    assert room.transact(RESEND, Resending(client_id="me", notification_id=names[0])).resent == 0


def titles_of_tablet(room: Room) -> list[str]:
    return [one.kind for one in room.device_queue("tablet").items]


def test_a_device_that_registered_anew_meanwhile_is_not_removed_for_its_old_address(room: Room) -> None:
    room.register()
    name = room.post("n")
    room.register(subscription={**SUBSCRIPTION, "endpoint": "https://push.example.org/send/new"})
    recorded = record(room, (name, Attempt(is_gone=True, reason="HTTP 410")))
    assert recorded.due_ms == room.now_ms
    assert room.device_queue().address.endswith("/new")
    assert titles(room) == ["n"]


def test_a_new_address_is_tried_at_once(room: Room) -> None:
    room.register()
    name = room.post("n")
    record(room, (name, Attempt(reason="HTTP 500")))
    room.register(subscription={**SUBSCRIPTION, "endpoint": "https://push.example.org/send/new"})
    assert room.look().device_queues == (("web_push", "me", "phone"),)


def test_what_waits_for_a_removed_device_is_discarded_and_its_result_changes_nothing(room: Room) -> None:
    room.register()
    name = room.post("n")
    assert room.transact(REMOVE, OfDevice(client_id="me", device_id="phone")).removed
    assert not room.transact(REMOVE, OfDevice(client_id="me", device_id="phone")).removed
    record(room, (name, SENT))
    record(room, (name, Attempt(reason="HTTP 500")))
    assert room.state(name) == "discarded (the device was removed)"


def test_a_look_is_bounded_and_fair_between_channels(room: Room) -> None:
    for number in range(70):
        room.register("phone", client_id=f"c{number:02d}")
        room.post("n", client_id=f"c{number:02d}")
    room.register("hook", platform="webhook", url="https://hook.example.org/", secret="s" * 16, client_id="c00")
    room.post("m", client_id="c00")
    due = room.read(DUE_DELIVERIES, DueDeliveriesQuery(now_ms=room.now_ms))
    assert len([one for one in due.device_queues if one[0] == "web_push"]) == 64
    assert ("webhook", "c00", "hook") in due.device_queues


@pytest.mark.parametrize(("days", "gone"), [(29, 0), (31, 2)])
def test_old_notifications_are_forgotten_in_bounded_steps(room: Room, days: int, gone: int) -> None:
    room.register()
    room.post("a")
    room.post("b")
    with room.engine.begin() as connection:
        assert prune_notifications(connection, room.now_ms + days * 86_400_000) == gone
        assert prune_notifications(connection, room.now_ms + days * 86_400_000) == 0
    assert len(room.device_queue().items) == 2 - gone
