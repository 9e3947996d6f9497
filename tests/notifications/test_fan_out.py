"""Rows written in the transaction of a trigger, and the release of held deliveries."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from actors.errors import CommandError
from actors.notifications import acks as acknowledging
from actors.notifications.acks import ACKNOWLEDGE, Acknowledged, Acknowledgements, StreamBegun, prune_settled
from actors.notifications.outbox import RELEASE, ReleaseClient
from actors.notifications.store import COUNT, LIST, Listing
from actors.storage.messages import Operation, Outcome, Trigger
from protocol.errors import ErrorCode
from protocol.events import Priority
from protocol.notifications import NotificationList
from tests.notifications.store_kit import START_MS, Service

TASK = {"task_id": "t-1", "title": "Write the parser", "status": "in_progress", "anything": ["else"]}
HOUR_MS = 3_600_000
QUIET = {"start": "14:00", "end": "15:00", "timezone": "UTC"}
"""The service's clock starts at 14:13."""


def acknowledge(service: Service, seq: int, device_id: str = "laptop", client_id: str = "me") -> Any:
    entries = (Acknowledged(client_id, device_id, seq, service.now_ms),)
    return service.transact(ACKNOWLEDGE, Acknowledgements(entries), client_id)


def release(service: Service, client_id: str = "me") -> None:
    service.transact(RELEASE, ReleaseClient(client_id), client_id)


def test_a_trigger_becomes_a_notification_in_the_log_and_one_delivery_for_each_device(service: Service) -> None:
    service.register("phone")
    service.register("tablet")
    service.cause(Trigger(kind="task_blocked", data={"task": TASK}))
    (event,) = service.events
    assert (event.type, event.channel, event.priority, event.seq) == ("notification", "notifications", Priority.HIGH, 1)
    told = json.loads(event.data)["notification"]
    assert told["title"] == "Task blocked: Write the parser"
    assert told["data"] == {"task_id": "t-1", "status": "in_progress"}
    assert [one.notification_id for one in service.device_queue("phone").items] == [told["notification_id"]]
    assert service.state(told["notification_id"], "") == "sent"
    assert service.look().device_queues == (("web_push", "me", "phone"), ("web_push", "me", "tablet"))


@pytest.mark.parametrize(
    "kind", ["task_created", "task_moved", "task_blocked", "approval_needed", "due_soon", "analysis_done"]
)
def test_every_kind_that_the_tasks_service_emits_has_its_text(service: Service, kind: str) -> None:
    service.cause(Trigger(kind=kind, data={"task": TASK, "detail": "three findings"}))
    assert "Write the parser" in service.told()[0]


@pytest.mark.parametrize("is_own_action", [True, False])
def test_te29_what_the_client_did_itself_is_told_and_not_unread(service: Service, is_own_action: bool) -> None:
    service.register("phone")
    service.cause(Trigger(kind="task_moved", data={"task": TASK}, is_own_action=is_own_action))
    assert service.told() == ["Task moved: Write the parser"]
    (listed,) = service.read(LIST, Listing(client_id="me", data=NotificationList())).notifications
    assert (listed.read_at is not None) is is_own_action
    assert service.read(COUNT, "me").unread == (0 if is_own_action else 1)
    assert len(service.device_queue("phone").items) == 1


def test_a_refused_cause_leaves_no_notification(service: Service) -> None:
    def refuse(*_: object) -> Outcome[int]:
        raise CommandError(ErrorCode.CONFLICT, "no")

    with pytest.raises(CommandError):
        service.transact(Operation("refuse", refuse, int), None)
    assert service.events == []
    assert service.read(COUNT, "me").total == 0


def test_a_trigger_that_makes_no_sense_undoes_nothing_of_its_cause(service: Service) -> None:
    service.cause(
        Trigger(kind="no_such_kind", data={}),
        Trigger(kind="task_moved", data={"task": {"title": 5}}),
        Trigger(kind="task_moved", data={"task": {**TASK, "title": "x" * 9000}}),
    )
    assert len(service.told()) == 1
    assert len(service.told()[0]) == 200


def test_texts_are_in_the_language_of_client_and_device(service: Service) -> None:
    service.register("phone", locale="de-AT")
    service.cause(Trigger(kind="task_blocked", data={"task": TASK}))
    assert service.told() == ["Task blocked: Write the parser"]
    assert service.device_queue("phone").locale == "de-AT"
    service.prefer(locale="de")
    service.cause(Trigger(kind="task_blocked", data={"task": TASK}))
    assert service.told()[1] == "Aufgabe blockiert: Write the parser"


def test_what_a_client_does_not_want_is_kept_for_its_history_with_the_reason(service: Service) -> None:
    service.register()
    service.prefer(min_priority="high")
    name = service.post("quiet", Priority.LOW)
    assert service.told() == []
    assert service.state(name, "") == service.state(name) == "discarded (not wanted: min_priority)"
    assert service.read(COUNT, "me").unread == 0


def test_a_device_narrows_what_its_client_wants(service: Service) -> None:
    service.register("phone")
    service.register("tablet")
    service.prefer("phone", event_types=["build_failure"])
    name = service.post("hello")
    assert service.state(name, "phone") == "discarded (not wanted: event_type)"
    assert service.state(name, "tablet") == "pending"
    assert service.told() == ["hello"]


def test_quiet_hours_hold_back_all_but_critical_and_tell_it_afterwards_in_order(service: Service) -> None:
    service.register()
    service.prefer(quiet_hours=QUIET)
    names = [service.post("one"), service.post("two")]
    service.post("fire", Priority.CRITICAL)
    assert service.told() == ["fire"]
    assert service.state(names[0]) == service.state(names[1], "") == "held (quiet_hours)"
    service.now_ms += 40 * 60_000
    assert service.look().clients == ()
    assert service.look().next_ms == START_MS // HOUR_MS * HOUR_MS + HOUR_MS
    service.now_ms = START_MS // HOUR_MS * HOUR_MS + HOUR_MS
    assert service.look().clients == ("me",)
    release(service)
    assert service.told() == ["fire", "one", "two"]
    assert [one.fields["title"] for one in service.device_queue().items] == ["one", "two", "fire"]
    release(service)
    assert service.told() == ["fire", "one", "two"]


def test_what_is_over_the_rate_is_told_as_one_digest(service: Service) -> None:
    service.register()
    service.prefer(rate_limit={"count": 2, "seconds": 60})
    names = [service.post(f"n{number}") for number in range(9)]
    service.post("fire", Priority.CRITICAL)
    assert service.told() == ["n0", "n1", "fire"]
    assert service.state(names[2]) == "held (rate_limit)"
    service.now_ms += 61_000
    # It came when the limit had space again, but may not overtake the others.
    late = service.post("late")
    assert service.state(late) == "held (rate_limit)"
    release(service)
    assert service.told()[3:] == ["8 more notifications"]
    digest = service.device_queue().items[-1]
    assert (digest.kind, digest.fields["count"]) == ("digest", 8)
    assert digest.fields["titles"] == "n2 · n3 · n4 · n5 · n6 …"
    assert service.state(names[8]) == service.state(late) == "digested (rate_limit)"
    # A digest is not a notification itself.
    page = service.read(LIST, Listing(client_id="me", data=NotificationList()))
    assert len(page.notifications) == page.unread == 11


def test_a_single_one_over_the_rate_is_told_as_it_is(service: Service) -> None:
    service.prefer(rate_limit={"count": 1, "seconds": 60})
    service.post("one")
    service.post("two")
    service.now_ms += 60_000
    release(service)
    assert service.told() == ["one", "two"]


def test_a_digest_that_comes_due_in_quiet_hours_waits_for_their_end(service: Service) -> None:
    service.prefer(rate_limit={"count": 1, "seconds": 60})
    names = [service.post(f"n{number}") for number in range(3)]
    service.prefer(rate_limit={"count": 1, "seconds": 60}, quiet_hours=QUIET)
    service.now_ms += 61_000
    release(service)
    assert service.state(names[2], "") == "held (rate_limit)"
    service.now_ms = START_MS // HOUR_MS * HOUR_MS + HOUR_MS
    release(service)
    assert service.told() == ["n0", "2 more notifications"]


def test_new_preferences_are_asked_again_for_what_is_held(service: Service) -> None:
    service.prefer(quiet_hours=QUIET)
    kept, muted = service.post("kept", Priority.HIGH), service.post("muted", Priority.LOW)
    service.prefer(min_priority="medium")
    release(service)
    assert service.told() == ["kept"]
    assert (service.state(kept, ""), service.state(muted, "")) == ("sent", "discarded (not wanted: min_priority)")


def test_a_push_waits_while_another_device_is_awake_and_goes_out_if_that_does_not_show_it(service: Service) -> None:
    service.push_hold_seconds = 10
    service.register()
    service.post("before")
    acknowledge(service, 1)
    seen, unseen = service.post("seen"), service.post("unseen")
    urgent = service.post("fire", Priority.CRITICAL)
    assert service.state(seen) == "held (seen_elsewhere)"
    assert service.state(urgent) == "pending"
    service.now_ms += 1_000
    acknowledge(service, 2)
    service.now_ms += 9_000
    release(service)
    assert service.state(seen) == "discarded (seen_elsewhere)"
    assert service.state(unseen) == "pending"
    service.now_ms += 60_000
    assert service.state(service.post("asleep")) == "pending"


def test_a_device_that_only_came_is_not_taken_for_one_that_is_looked_at(service: Service) -> None:
    service.push_hold_seconds = 10
    service.register()
    first = service.post("before")
    service.transact(ACKNOWLEDGE, Acknowledgements((StreamBegun("me", "laptop", 1),)))
    assert service.state(service.post("n")) == "pending"
    assert acknowledge(service, 2) == 1
    assert service.state(first, "") == "sent"


def test_reading_a_notification_makes_its_held_push_superfluous(service: Service) -> None:
    from actors.notifications.store import READ, Marking

    service.push_hold_seconds = 10
    service.register()
    acknowledge(service, 0)
    name = service.post("read")
    service.transact(READ, Marking(client_id="me", device_id="laptop", notification_ids=(name,)))
    service.now_ms += 10_000
    release(service)
    assert service.state(name) == "discarded (seen_elsewhere)"


def test_an_acknowledgement_marks_everything_up_to_it_for_that_device_alone(service: Service) -> None:
    names = [service.post(f"n{number}") for number in range(4)]
    service.now_ms += 50
    assert acknowledge(service, 3, "laptop") == 3
    assert [service.state(name, "") for name in names] == ["delivered"] * 3 + ["sent"]
    assert service.state(names[2], "laptop") == "delivered"
    assert acknowledge(service, 3, "laptop") == 0
    assert acknowledge(service, 4, "watch") == 4
    assert acknowledge(service, 4, "laptop") == 1
    # A log that was lost begins at 1 again.
    with service.engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))
        connection.execute(text("UPDATE client_logs SET head = 0"))
    fresh = service.post("fresh")
    assert acknowledge(service, 1, "laptop") == 1
    assert service.state(fresh, "laptop") == "delivered"


def known_devices(service: Service) -> list[str]:
    with service.engine.begin() as connection:
        named = connection.execute(text("SELECT device_id FROM notification_acknowledgements ORDER BY device_id"))
        return [row.device_id for row in named]


def prune(service: Service) -> int:
    with service.engine.begin() as connection:
        return prune_settled(connection, service.now_ms)


def test_a_device_is_forgotten_once_nothing_is_left_up_to_what_it_has(service: Service) -> None:
    names = [service.post(f"n{number}") for number in range(3)]
    acknowledge(service, 1, "one")
    acknowledge(service, 2, "two")
    service.transact(ACKNOWLEDGE, Acknowledgements((StreamBegun("me", "came", 1),)))
    service.now_ms += 3 * 3_600_000
    assert prune(service) == 0
    with service.engine.begin() as connection:
        connection.execute(text("DELETE FROM events WHERE seq <= 1"))
    assert prune(service) == 2
    assert known_devices(service) == ["two"]
    # A repeated `ack` has the same effect.
    assert acknowledge(service, 3, "one") == 2
    assert [service.state(name, "one") for name in names] == ["delivered"] * 3


def test_a_device_that_acknowledged_just_now_is_not_forgotten(service: Service) -> None:
    service.push_hold_seconds = 10
    service.register()
    service.post("before")
    acknowledge(service, 1)
    with service.engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))
    service.now_ms += 5_000
    assert prune(service) == 0
    # Somebody is looking at it.
    assert service.state(service.post("n")) == "held (seen_elsewhere)"


def test_of_too_many_devices_those_that_were_silent_longest_are_forgotten(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledging, "MAXIMUM_DEVICES", 3)
    name = service.post("n")
    service.transact(ACKNOWLEDGE, Acknowledgements((StreamBegun("me", "came", 1),)))
    for number in range(5):
        service.now_ms += 1000
        acknowledge(service, 1, f"d{number}")
    assert known_devices(service) == ["d2", "d3", "d4"]
    # Nor are more rows stored for them.
    with service.engine.begin() as connection:
        told = connection.execute(text("SELECT device_id FROM notification_deliveries ORDER BY device_id")).scalars()
        assert told.all() == ["", "d0", "d1", "d2"]
    assert service.state(name, "") == "delivered"


def test_clients_do_not_see_each_other(service: Service) -> None:
    service.register(client_id="other")
    service.post("mine")
    assert service.told("other") == []
    assert service.device_queue(client_id="other").items == ()
    assert acknowledge(service, 1, client_id="other") == 0


def test_numbers_run_per_client_without_holes(service: Service) -> None:
    for title in ("a", "b"):
        service.post(title)
        service.post(title, client_id="other")
    with service.engine.begin() as connection:
        rows = connection.execute(text("SELECT client_id, number FROM notifications ORDER BY 1, 2")).all()
    assert [tuple(row) for row in rows] == [("me", 1), ("me", 2), ("other", 1), ("other", 2)]
