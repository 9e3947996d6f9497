"""The outbox: order for each device, results, retries, giving up, deleted devices, pruning."""

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
from tests.notifications.store_kit import SUBSCRIPTION, Service

SENT = Attempt(is_sent=True)
SCHEDULE = RetrySchedule(base_seconds=10, jitter=0, maximum_attempts=3)


def record(service: Service, *attempts: tuple[str, Attempt], address: str = SUBSCRIPTION["endpoint"]) -> Any:  # type: ignore[assignment]
    return service.transact(
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


def titles(service: Service) -> list[str]:
    return [str(one.fields["title"]) for one in service.device_queue().items]


def test_a_lane_is_read_in_order_in_bounded_pages(service: Service) -> None:
    service.register()
    names = [service.post(f"n{number}") for number in range(40)]
    assert titles(service) == [f"n{number}" for number in range(16)]
    assert record(service, *((name, SENT) for name in names[:16])).due_ms == service.now_ms
    assert titles(service)[0] == "n16"
    assert service.device_queue().badge == 40
    record(service, *((name, SENT) for name in names[16:]))
    assert service.look().device_queues == ()
    service.post("later")
    assert service.look().device_queues == (("web_push", "me", "phone"),)


def test_a_failure_makes_the_whole_device_wait_so_that_nothing_overtakes(service: Service) -> None:
    service.register()
    first, second = service.post("first"), service.post("second")
    assert record(service, (first, Attempt(reason="HTTP 500"))).due_ms == service.now_ms + 10_000
    service.post("third")
    assert service.look().device_queues == ()
    assert service.look().next_ms == service.now_ms + 10_000
    assert service.state(first) == "pending (HTTP 500)"
    service.now_ms += 10_000
    assert service.look().device_queues == (("web_push", "me", "phone"),)
    assert titles(service) == ["first", "second", "third"]
    assert service.device_queue().items[0].attempts == 1
    record(service, (first, SENT), (second, SENT))
    assert titles(service) == ["third"]


def test_the_services_own_wait_is_kept_to(service: Service) -> None:
    service.register()
    name = service.post("n")
    due_ms = record(service, (name, Attempt(reason="HTTP 429", retry_after_seconds=77))).due_ms
    assert due_ms == service.now_ms + 77_000


def test_after_its_attempts_a_delivery_is_discarded_with_the_reason_and_the_next_is_tried(service: Service) -> None:
    service.register()
    name, after = service.post("n"), service.post("after")
    for _ in range(2):
        service.now_ms = record(service, (name, Attempt(reason="HTTP 503"))).due_ms
    assert record(service, (name, Attempt(reason="HTTP 503"))).due_ms == service.now_ms
    assert service.state(name) == "discarded (given up after 3 attempts: HTTP 503)"
    assert [one.notification_id for one in service.device_queue().items] == [after]


def test_dead_letters_are_listed_and_sent_again_with_all_attempts(service: Service) -> None:
    service.register()
    names = [service.post(f"n{number}") for number in range(3)]
    record(
        service,
        (names[0], Attempt(is_final=True, reason="HTTP 413")),
        (names[1], SENT),
        (names[2], Attempt(is_final=True, reason="HTTP 400")),
    )
    page = service.read(DEAD_LETTERS, Page(client_id="me", limit=1))
    assert [(one.notification.title, one.reason, one.state.value) for one in page.dead_letters] == [
        ("n2", "HTTP 400", "dead")
    ]
    page = service.read(DEAD_LETTERS, Page(client_id="me", cursor=page.next))
    assert [one.notification.title for one in page.dead_letters] == ["n0"]
    assert page.next is None
    assert service.transact(RESEND, Resending(client_id="me", notification_id=names[0])).resent == 1
    assert service.transact(RESEND, Resending(client_id="me", notification_id=names[1])).resent == 0
    assert service.look().device_queues == (("web_push", "me", "phone"),)
    assert [(one.notification_id, one.attempts) for one in service.device_queue().items] == [(names[0], 0)]
    assert service.transact(RESEND, Resending(client_id="other", notification_id=names[2])).resent == 0


def test_a_subscription_that_is_gone_is_removed_and_said_so(service: Service) -> None:
    service.register("phone")
    service.register("tablet")
    names = [service.post("one"), service.post("two")]
    record(service, (names[0], Attempt(is_gone=True, reason="HTTP 410")))
    assert service.read(READ_DEVICE_QUEUE, DeviceQueueQuery(client_id="me", device_id="phone")) is None
    assert service.state(names[0]) == service.state(names[1]) == "discarded (the subscription is gone)"
    assert service.told()[-1] == "Push to phone has ended"
    assert titles_of_tablet(service)[-1] == "device_removed"
    assert len(service.read(DEAD_LETTERS, Page(client_id="me")).dead_letters) == 2
    # Its device is gone: nothing can be sent again.
    assert service.transact(RESEND, Resending(client_id="me", notification_id=names[0])).resent == 0


def titles_of_tablet(service: Service) -> list[str]:
    return [one.kind for one in service.device_queue("tablet").items]


def test_a_device_that_registered_anew_meanwhile_is_not_removed_for_its_old_address(service: Service) -> None:
    service.register()
    name = service.post("n")
    service.register(subscription={**SUBSCRIPTION, "endpoint": "https://push.example.org/send/new"})
    recorded = record(service, (name, Attempt(is_gone=True, reason="HTTP 410")))
    assert recorded.due_ms == service.now_ms
    assert service.device_queue().address.endswith("/new")
    assert titles(service) == ["n"]


def test_a_new_address_is_tried_at_once(service: Service) -> None:
    service.register()
    name = service.post("n")
    record(service, (name, Attempt(reason="HTTP 500")))
    service.register(subscription={**SUBSCRIPTION, "endpoint": "https://push.example.org/send/new"})
    assert service.look().device_queues == (("web_push", "me", "phone"),)


def test_what_waits_for_a_removed_device_is_discarded_and_its_result_changes_nothing(service: Service) -> None:
    service.register()
    name = service.post("n")
    assert service.transact(REMOVE, OfDevice(client_id="me", device_id="phone")).removed
    assert not service.transact(REMOVE, OfDevice(client_id="me", device_id="phone")).removed
    record(service, (name, SENT))
    record(service, (name, Attempt(reason="HTTP 500")))
    assert service.state(name) == "discarded (the device was removed)"


def test_a_look_is_bounded_and_fair_between_channels(service: Service) -> None:
    for number in range(70):
        service.register("phone", client_id=f"c{number:02d}")
        service.post("n", client_id=f"c{number:02d}")
    service.register("hook", platform="webhook", url="https://hook.example.org/", secret="s" * 16, client_id="c00")
    service.post("m", client_id="c00")
    due = service.read(DUE_DELIVERIES, DueDeliveriesQuery(now_ms=service.now_ms))
    assert len([one for one in due.device_queues if one[0] == "web_push"]) == 64
    assert ("webhook", "c00", "hook") in due.device_queues


@pytest.mark.parametrize(("days", "gone"), [(29, 0), (31, 2)])
def test_old_notifications_are_forgotten_in_bounded_steps(service: Service, days: int, gone: int) -> None:
    service.register()
    service.post("a")
    service.post("b")
    with service.engine.begin() as connection:
        assert prune_notifications(connection, service.now_ms + days * 86_400_000) == gone
        assert prune_notifications(connection, service.now_ms + days * 86_400_000) == 0
    assert len(service.device_queue().items) == 2 - gone
