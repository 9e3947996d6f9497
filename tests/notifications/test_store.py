"""Lists, reading, devices, preferences, history and metrics, on a real database."""

import pytest

from actors.errors import CommandError
from actors.notifications.acks import ACKNOWLEDGE, Acknowledged, Acknowledgements
from actors.notifications.delivery_rules import Attempt, RetrySchedule
from actors.notifications.history import HISTORY, MARK, STATISTICS, DeliveryMark, Page, percentiles
from actors.notifications.outbox import RECORD, Results
from actors.notifications.store import (
    ANNOUNCE,
    COUNT,
    KNOWN_CLIENTS,
    LIST,
    LIST_DEVICES,
    READ,
    READ_PREFERENCES,
    Announcement,
    ClientsAfter,
    Listing,
    Marking,
    OfDevice,
)
from protocol.events import Priority
from protocol.notifications import Channel, DeliveryState, NotificationList, NotificationPage
from tests.notifications.store_kit import SUBSCRIPTION, Service


def listed(service: Service, **wanted: object) -> NotificationPage:
    page: NotificationPage = service.read(LIST, Listing(client_id="me", data=NotificationList(**wanted)))  # type: ignore[arg-type]
    return page


def read(service: Service, *names: str, opened: bool = False, device_id: str = "laptop") -> object:
    command = Marking(client_id="me", device_id=device_id, notification_ids=names or None, is_opened=opened)
    return service.transact(READ, command)


def test_unread_come_first_then_newest_and_pages_join_without_gap_or_repeat(service: Service) -> None:
    names = [service.post(f"n{number}") for number in range(7)]
    read(service, names[1], names[5], names[6])
    wanted = ["n4", "n3", "n2", "n0", "n6", "n5", "n1"]
    assert [one.title for one in listed(service).notifications] == wanted
    for limit in (1, 2, 3, 4, 7):
        found: list[str] = []
        cursor = None
        while True:
            page = listed(service, limit=limit, cursor=cursor)
            assert page.unread == 4
            found += [one.title for one in page.notifications]
            cursor = page.next
            # A page that repeated the previous one would keep a client looping.
            assert found == wanted[: len(found)]
            if cursor is None:
                break
        assert found == wanted
    assert [one.title for one in listed(service, unread_only=True).notifications] == wanted[:4]


@pytest.mark.parametrize("cursor", ["x1", "u", "u-1", "1", "r1.5", "u" + "9" * 30, "u٣"])
def test_a_wrong_cursor_is_refused_by_name(service: Service, cursor: str) -> None:
    with pytest.raises(CommandError) as caught:
        listed(service, cursor=cursor)
    assert caught.value.field == "data.cursor"


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30])
def test_a_wrong_cursor_of_the_history_is_refused(service: Service, cursor: str) -> None:
    with pytest.raises(CommandError):
        service.read(HISTORY, Page(client_id="me", cursor=cursor))


def test_counts_fall_as_notifications_are_read(service: Service) -> None:
    names = [service.post("a"), service.post("b", Priority.HIGH), service.post("c", Priority.HIGH)]
    service.post("theirs", client_id="other")
    assert service.read(COUNT, "me").unread_by_priority == {"medium": 1, "high": 2}
    result = read(service, names[0], "n-other-theirs", "unknown")
    assert (result.changed, result.unread) == (1, 2)  # type: ignore[attr-defined]
    assert read(service).changed == 2  # type: ignore[attr-defined]
    counts = service.read(COUNT, "me")
    assert (counts.unread, counts.total) == (0, 3)
    assert service.read(COUNT, "other").unread == 1


def test_opening_marks_the_delivery_of_that_device(service: Service) -> None:
    name = service.post("a")
    acknowledged = (Acknowledged("me", "laptop", 1, service.now_ms), Acknowledged("me", "watch", 1, service.now_ms))
    service.transact(ACKNOWLEDGE, Acknowledgements(acknowledged))
    read(service, name, opened=True)
    assert [service.state(name, one) for one in ("", "laptop", "watch")] == ["opened", "opened", "delivered"]


def test_a_device_is_updated_by_registering_again_and_keeps_what_it_preferred(service: Service) -> None:
    service.register(timezone="Europe/Berlin", app_version="1")
    service.prefer("phone", min_priority="high")
    service.now_ms += 1000
    device = service.register(timezone="Asia/Tokyo", app_version="2")
    assert (device.timezone, device.app_version, device.host) == ("Asia/Tokyo", "2", "push.example.org")
    assert device.created_at < device.updated_at
    assert service.read(READ_PREFERENCES, OfDevice(client_id="me", device_id="phone")).min_priority is Priority.HIGH
    assert len(service.read(LIST_DEVICES, "me").devices) == 1


def test_a_device_that_becomes_another_platform_leaves_nothing_behind(service: Service) -> None:
    service.register()
    name = service.post("n")
    device = service.register(platform="ios", token="A" * 64)
    assert (device.environment, device.host) == ("production", "")
    assert service.state(name) == "discarded (the device became another platform)"
    assert service.device_queue().address == "a" * 64


def test_secrets_of_devices_are_told_to_nobody(service: Service) -> None:
    device = service.register("hook", platform="webhook", url="https://hook.example.org/s3cret", secret="s3cret" * 4)
    assert "s3cret" not in repr(device)
    service.post("n")
    assert "s3cret" not in repr(service.device_queue("hook"))


def test_a_client_may_have_only_so_many_devices(service: Service) -> None:
    for number in range(32):
        service.register(f"d{number}")
    with pytest.raises(CommandError, match="32 devices"):
        service.register("one-more")
    service.register("d5")


def test_preferences_of_an_unknown_device_are_not_found(service: Service) -> None:
    with pytest.raises(CommandError, match="no device ghost"):
        service.prefer("ghost")
    with pytest.raises(CommandError, match="no device ghost"):
        service.read(READ_PREFERENCES, OfDevice(client_id="me", device_id="ghost"))
    assert service.read(READ_PREFERENCES, OfDevice(client_id="me")).min_priority is Priority.DEBUG


def test_history_has_every_delivery_with_its_state(service: Service) -> None:
    service.register()
    service.prefer("phone", min_priority="critical")
    service.post("a")
    service.post("b", Priority.CRITICAL)
    page = service.read(HISTORY, Page(client_id="me", limit=1))
    (entry,) = page.entries
    assert entry.notification.title == "b"
    assert {(one.channel, one.device_id, one.state) for one in entry.deliveries} == {
        (Channel.IN_APP, "", DeliveryState.SENT),
        (Channel.WEB_PUSH, "phone", DeliveryState.PENDING),
    }
    page = service.read(HISTORY, Page(client_id="me", limit=1, cursor=page.next))
    assert page.next is None
    assert page.entries[0].deliveries[1].reason == "not wanted: min_priority"


def test_figures_come_from_what_was_recorded(service: Service) -> None:
    service.register()
    names = [service.post(f"n{number}") for number in range(4)]
    schedule = RetrySchedule(maximum_attempts=1)
    for number, name in enumerate(names):
        service.now_ms += 100
        attempt = Attempt(is_sent=True) if number < 3 else Attempt(reason="HTTP 500")
        results = Results(
            client_id="me",
            device_id="phone",
            channel=Channel.WEB_PUSH,
            address=SUBSCRIPTION["endpoint"],  # type: ignore[arg-type]
            attempts=((name, attempt),),
            schedule=schedule,
        )
        service.transact(RECORD, results)
    service.transact(ACKNOWLEDGE, Acknowledgements((Acknowledged("me", "laptop", 2, service.now_ms),)))
    for state in (DeliveryState.DELIVERED, DeliveryState.OPENED):
        mark = DeliveryMark(client_id="me", notification_id=names[0], device_id="phone", state=state)
        assert service.transact(MARK, mark).changed
        assert not service.transact(MARK, mark).changed
    figures = service.read(STATISTICS, "me")
    assert figures.by_channel == {
        "in_app": {"sent": 2, "delivered": 2},
        "web_push": {"sent": 2, "opened": 1, "discarded": 1},
    }
    assert (figures.sent, figures.delivered, figures.opened, figures.failed) == (7, 3, 1, 1)
    assert figures.latency_ms["web_push"] == {"p50": 200.0, "p95": 300.0, "p99": 300.0}
    assert figures.delivery_ms["in_app"] == {"p50": 400.0, "p95": 400.0, "p99": 400.0}
    assert service.read(COUNT, "me").unread == 3


def test_a_mark_for_what_was_never_sent_there_is_not_found(service: Service) -> None:
    name = service.post("n")
    for device_id, client_id in (("phone", "me"), ("", "other")):
        mark = DeliveryMark(client_id=client_id, notification_id=name, device_id=device_id, state=DeliveryState.OPENED)
        with pytest.raises(CommandError):
            service.transact(MARK, mark)


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentiles([5]) == {"p50": 5.0, "p95": 5.0, "p99": 5.0}
    assert percentiles(list(range(1, 101))) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_everyone_who_is_known_can_be_told(service: Service) -> None:
    service.register(client_id="a")
    service.prefer(client_id="b")
    service.post("n", client_id="c")
    assert service.read(KNOWN_CLIENTS, ClientsAfter()) == ("a", "b", "c")
    assert service.read(KNOWN_CLIENTS, ClientsAfter(after="b")) == ("c",)
    told = Announcement(announcement_id="1", kind="engine_degraded", fields={"model": "phi", "detail": "it died"})
    service.transact(ANNOUNCE, told, "a")
    assert service.told("a") == ["The model is not available"]
