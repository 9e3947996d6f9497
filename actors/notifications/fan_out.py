"""Fan-out: writes notifications and their deliveries in the transaction of their cause, and releases held ones."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from attrs import frozen
from sqlalchemy import Connection, Row, bindparam, exists, insert, or_, select, update

from actors.clock import now_milliseconds
from actors.notifications.preference_rules import HoldReason, Subject, Verdict, decide, hold
from actors.notifications.rows import (
    NotificationRow,
    as_notification,
    json_text,
    next_number,
    preferences_of,
    read_preferences,
    wake_device,
)
from actors.notifications.tables import deliveries, devices, high_water_marks, notifications
from actors.storage.messages import LogEvent, Trigger, TriggerHook
from protocol.codec import unstructure
from protocol.events import Priority
from protocol.notification_templates import DEFAULT_LOCALE, TEMPLATES, checked_fields, cut, render
from protocol.notifications import Channel, DeliveryState, Preferences
from protocol.validation import FieldFault

__all__ = ["IN_APP_DEVICE", "RELEASE_ROWS", "release_held", "trigger_hook", "trigger_of_post"]

_log = structlog.get_logger("notifications")

IN_APP_DEVICE = ""
"""Device id of in-app deliveries, which go to the client's log that every device reads."""
RELEASE_ROWS = 500
"""Held deliveries examined per transaction."""
DIGEST_TITLES = 5
LONGEST_LIMIT_MS = 86_400_000
"""Longest window of a rate limit, one day."""
_S = DeliveryState

# Made once: SQLAlchemy takes longer to make a statement than SQLite to carry it out.
_LANES = (
    select(devices.c.channel, devices.c.device_id, devices.c.preferences, devices.c.timezone)
    .where(devices.c.client_id == bindparam("of_client"))
    .order_by(devices.c.device_id)
)
_OF_LANE = (
    deliveries.c.client_id == bindparam("of_client"),
    deliveries.c.device_id == bindparam("of_device"),
    deliveries.c.channel == bindparam("of_channel"),
)
_RATE_LIMITED_UNTIL = (
    select(deliveries.c.due_ms)
    .where(*_OF_LANE, deliveries.c.state == _S.HELD.value, deliveries.c.reason == HoldReason.RATE_LIMIT.value)
    .limit(1)
)
_RELEASED = (
    select(deliveries.c.released_ms)
    .where(*_OF_LANE, deliveries.c.released_ms > bindparam("since_ms"), deliveries.c.released_ms <= bindparam("now_ms"))
    .order_by(deliveries.c.released_ms.desc())
    .limit(bindparam("maximum"))
)
_IS_AWAKE = select(
    exists().where(
        high_water_marks.c.client_id == bindparam("of_client"),
        high_water_marks.c.time_ms > bindparam("since_ms"),
        high_water_marks.c.time_ms <= bindparam("now_ms"),
    )
)
_DUE = (
    select(deliveries, *(one for one in notifications.c if one.name not in deliveries.c))
    .join(notifications, notifications.c.notification_id == deliveries.c.notification_id)
    .where(*_OF_LANE, deliveries.c.state == _S.HELD.value, deliveries.c.due_ms <= bindparam("now_ms"))
    .order_by(deliveries.c.number)
    .limit(RELEASE_ROWS)
)
_NEW_NOTIFICATION = insert(notifications)
_NEW_DELIVERY = insert(deliveries)
_UNUSED: dict[str, Any] = dict.fromkeys(("reason", "due_ms", "released_ms", "sent_ms"))
"""Every insert names the same columns, so that there is one statement to compile."""


def trigger_of_post(
    template: str, fields: Mapping[str, Any], priority: Priority | None, notification_id: str
) -> Trigger:
    """Build the trigger of a notification that a client posts."""
    return Trigger(
        kind=template,
        priority=priority or TEMPLATES[template].priority,
        data={"fields": dict(fields), "notification_id": notification_id, "is_exact": True},
    )


def trigger_hook(push_hold_seconds: float) -> TriggerHook:
    """Return the hook that storage calls in the transaction of a cause.

    ``push_hold_seconds``: pushes are held this long if a device of the client acknowledged something as recently.
    """
    push_hold_ms = int(push_hold_seconds * 1000)

    def notify(connection: Connection, client_id: str, triggers: tuple[Trigger, ...]) -> tuple[LogEvent, ...]:
        events: list[LogEvent] = []
        for trigger in triggers:
            try:
                fields = _fields_of(trigger)
            except (FieldFault, KeyError) as fault:
                # The cause is worth more than telling of it: a trigger that makes no sense undoes nothing.
                _log.error("trigger makes no notification", kind=trigger.kind, problem=str(fault))
                continue
            events += _Writing(connection, client_id, push_hold_ms, now_milliseconds()).notify(trigger, fields)
        return tuple(events)

    return notify


def _fields_of(trigger: Trigger) -> dict[str, str | int]:
    """Extract the template's fields from the trigger. Raises `FieldFault` or `KeyError`."""
    template = TEMPLATES[trigger.kind]
    given: dict[str, Any]
    if "fields" in trigger.data:
        given = dict(trigger.data["fields"])
    else:
        task = trigger.data.get("task", {})
        given = {name: value for name, value in {**task, **trigger.data}.items() if name in template.fields}
        if "task_id" in template.fields and "task_id" not in given and "id" in task:
            given["task_id"] = task["id"]
    for name, value in given.items():
        wanted = template.fields.get(name)
        if wanted is not None and isinstance(value, str):
            given[name] = cut(value, wanted.maximum)
    return checked_fields(trigger.kind, given)


@frozen
class _DeviceQueue:
    """A channel to one device, with the preferences that apply to it."""

    channel: Channel
    device_id: str
    preferences: Preferences | None
    timezone: str | None


class _Writing:
    """Writes for one client in one transaction."""

    def __init__(self, connection: Connection, client_id: str, push_hold_ms: int, now_ms: int) -> None:
        self._connection = connection
        self._client_id = client_id
        self._push_hold_ms = push_hold_ms
        self._now_ms = now_ms

    def device_queues(self) -> list[_DeviceQueue]:
        """Return the client's log and each registered device."""
        rows = self._connection.execute(_LANES, {"of_client": self._client_id})
        return [
            _DeviceQueue(Channel.IN_APP, IN_APP_DEVICE, None, None),
            *(
                _DeviceQueue(
                    Channel(row.channel),
                    row.device_id,
                    None if row.preferences is None else preferences_of(row.preferences),
                    row.timezone,
                )
                for row in rows
            ),
        ]

    def notify(self, trigger: Trigger, fields: dict[str, str | int]) -> list[LogEvent]:
        """Write the notification and one delivery per device queue."""
        template = TEMPLATES[trigger.kind]
        # `medium` is what a trigger has that says nothing; then the template knows better.
        says_nothing = trigger.priority is Priority.MEDIUM and not trigger.data.get("is_exact")
        subject = Subject(kind=trigger.kind, priority=template.priority if says_nothing else trigger.priority)
        client = next_number(self._connection, self._client_id)
        verdicts = [
            (device_queue, self._verdict(subject, client.preferences, device_queue))
            for device_queue in self.device_queues()
        ]
        # What its own client does not want to be told of is kept for the history alone.
        is_muted = verdicts[0][1].discard is not None
        row = self.insert_notification(
            str(trigger.data.get("notification_id") or uuid.uuid4()),
            client.number,
            subject,
            fields,
            client.preferences,
            is_read=is_muted or trigger.is_own_action,
        )
        return [
            event
            for device_queue, verdict in verdicts
            for event in self.insert_delivery(row, subject, device_queue, verdict)
        ]

    def insert_notification(
        self,
        notification_id: str,
        number: int,
        subject: Subject,
        fields: dict[str, str | int],
        preferences: Preferences,
        *,
        is_read: bool = False,
        is_digest: bool = False,
    ) -> NotificationRow:
        """Insert a notification with its text in the client's language."""
        title, body = render(subject.kind, fields, preferences.locale or DEFAULT_LOCALE, Channel.IN_APP.value)
        data = {name: fields[name] for name in TEMPLATES[subject.kind].data if fields[name] != ""}
        row = NotificationRow(
            notification_id=notification_id,
            client_id=self._client_id,
            number=number,
            kind=subject.kind,
            priority=subject.priority.value,
            title=title,
            body=body,
            fields=json_text(fields),
            data=json_text(data),
            created_ms=self._now_ms,
            read_ms=self._now_ms if is_read else None,
            is_digest=is_digest,
        )
        self._connection.execute(_NEW_NOTIFICATION, row._asdict())
        return row

    def insert_delivery(
        self, row: NotificationRow, subject: Subject, device_queue: _DeviceQueue, verdict: Verdict
    ) -> list[LogEvent]:
        """Insert a delivery according to the verdict. Returns the event of an in-app delivery that goes out now."""
        values: dict[str, Any] = {"state": _S.PENDING.value, "released_ms": self._now_ms}
        events: list[LogEvent] = []
        if verdict.discard is not None:
            values = {"state": _S.DISCARDED.value, "reason": f"not wanted: {verdict.discard}"}
        elif verdict.hold is not None:
            values = {"state": _S.HELD.value, "reason": verdict.hold.value, "due_ms": verdict.until_ms}
        elif device_queue.channel is Channel.IN_APP:
            values = {**values, "state": _S.SENT.value, "sent_ms": self._now_ms}
            events.append(event_of(row))
        elif self._is_awake() and subject.priority is not Priority.CRITICAL:
            values = {
                "state": _S.HELD.value,
                "reason": HoldReason.SEEN_ELSEWHERE.value,
                "due_ms": self._now_ms + self._push_hold_ms,
            }
        else:
            wake_device(self._connection, self._client_id, device_queue.device_id, self._now_ms)
        self._connection.execute(
            _NEW_DELIVERY,
            {
                "notification_id": row.notification_id,
                "channel": device_queue.channel.value,
                "device_id": device_queue.device_id,
                "client_id": self._client_id,
                "number": row.number,
                "attempts": 0,
                **_UNUSED,
                **values,
            },
        )
        return events

    def _verdict(self, subject: Subject, client: Preferences, device_queue: _DeviceQueue) -> Verdict:
        verdict = decide(
            subject,
            device_queue.channel,
            client,
            device_queue.preferences,
            timezone=device_queue.timezone,
            sent_ms=self.released(client, device_queue),
            now_ms=self._now_ms,
        )
        if verdict.discard is None and verdict.hold is None and subject.priority is not Priority.CRITICAL:
            # It may not overtake those that wait for their digest.
            waiting = self._connection.execute(_RATE_LIMITED_UNTIL, self._of(device_queue)).scalar()
            if waiting is not None:
                return Verdict(hold=HoldReason.RATE_LIMIT, until_ms=min(waiting, self._now_ms + LONGEST_LIMIT_MS))
        return verdict

    def released(self, client: Preferences, device_queue: _DeviceQueue) -> Sequence[int]:
        """Return the times at which this queue was used within its longest rate-limit window, ascending."""
        limits = [
            one.rate_limit
            for one in (client, device_queue.preferences)
            if one is not None and one.rate_limit is not None
        ]
        if not limits:
            return ()
        since = self._now_ms - max(one.seconds for one in limits) * 1000
        maximum = max(one.count for one in limits)
        wanted = {**self._of(device_queue), "since_ms": since, "now_ms": self._now_ms, "maximum": maximum}
        return sorted(self._connection.execute(_RELEASED, wanted).scalars())

    def due(self, device_queue: _DeviceQueue) -> Sequence[Row[Any]]:
        """Return held deliveries that are due, with their notifications, in order and bounded."""
        return self._connection.execute(_DUE, {**self._of(device_queue), "now_ms": self._now_ms}).all()

    def _of(self, device_queue: _DeviceQueue) -> dict[str, str]:
        return {
            "of_client": self._client_id,
            "of_device": device_queue.device_id,
            "of_channel": device_queue.channel.value,
        }

    def _is_awake(self) -> bool:
        """Return whether a device of the client acknowledged something recently."""
        if self._push_hold_ms == 0:
            return False
        since_ms = self._now_ms - self._push_hold_ms
        wanted = {"of_client": self._client_id, "since_ms": since_ms, "now_ms": self._now_ms}
        return bool(self._connection.execute(_IS_AWAKE, wanted).scalar())


def event_of(row: Row[Any] | NotificationRow) -> LogEvent:
    """Return the event that announces a notification to every device of the client."""
    return LogEvent(
        type="notification",
        channel="notifications",
        priority=Priority(row.priority),
        data={"notification": unstructure(as_notification(row))},
    )


# --- what was held ------------------------------------------------------------------------------------


def release_held(connection: Connection, client_id: str, now_ms: int) -> tuple[LogEvent, ...]:
    """Judge held deliveries that are due again: send, hold longer, digest or discard them.

    At most `RELEASE_ROWS` per device queue; the rest stays due.
    """
    writing = _Writing(connection, client_id, 0, now_ms)
    client = read_preferences(connection, client_id)
    events: list[LogEvent] = []
    for device_queue in writing.device_queues():
        rows = writing.due(device_queue)
        if rows:
            events += _release_queue(writing, connection, client_id, client, device_queue, rows, now_ms)
    return tuple(events)


def _release_queue(
    writing: _Writing,
    connection: Connection,
    client_id: str,
    client: Preferences,
    device_queue: _DeviceQueue,
    rows: Sequence[Row[Any]],
    now_ms: int,
) -> list[LogEvent]:
    events: list[LogEvent] = []
    limited = [row for row in rows if row.reason == HoldReason.RATE_LIMIT.value]
    digested = {row.notification_id for row in limited} if len(limited) > 1 else set()
    for row in rows:
        if row.notification_id in digested:
            continue
        if row.reason == HoldReason.SEEN_ELSEWHERE.value and _was_seen(connection, row):
            _change(connection, row, state=_S.DISCARDED.value, reason=HoldReason.SEEN_ELSEWHERE.value, due_ms=None)
            continue
        subject = Subject(kind=row.kind, priority=Priority(row.priority))
        verdict = decide(
            subject,
            device_queue.channel,
            client,
            device_queue.preferences,
            timezone=device_queue.timezone,
            sent_ms=writing.released(client, device_queue),
            now_ms=now_ms,
        )
        if verdict.discard is not None:
            _change(connection, row, state=_S.DISCARDED.value, reason=f"not wanted: {verdict.discard}", due_ms=None)
        elif verdict.hold is not None:
            _change(connection, row, reason=verdict.hold.value, due_ms=verdict.until_ms)
        else:
            events += _release_now(connection, client_id, row, device_queue, now_ms)
    if digested:
        events += _digest(writing, connection, client_id, client, device_queue, limited, now_ms)
    return events


def _release_now(
    connection: Connection, client_id: str, row: Row[Any], device_queue: _DeviceQueue, now_ms: int
) -> list[LogEvent]:
    if device_queue.channel is Channel.IN_APP:
        _change(connection, row, state=_S.SENT.value, reason=None, due_ms=None, released_ms=now_ms, sent_ms=now_ms)
        return [event_of(row)]
    _change(connection, row, state=_S.PENDING.value, reason=None, due_ms=None, released_ms=now_ms)
    wake_device(connection, client_id, device_queue.device_id, now_ms)
    return []


def _digest(
    writing: _Writing,
    connection: Connection,
    client_id: str,
    client: Preferences,
    device_queue: _DeviceQueue,
    rows: Sequence[Row[Any]],
    now_ms: int,
) -> list[LogEvent]:
    """Replace many notifications with one digest if quiet hours and rate limits allow; otherwise they keep waiting."""
    layers = [client] if device_queue.preferences is None else [client, device_queue.preferences]
    verdict = hold(
        layers, timezone=device_queue.timezone, sent_ms=writing.released(client, device_queue), now_ms=now_ms
    )
    if verdict.hold is not None:
        for row in rows:
            _change(connection, row, due_ms=verdict.until_ms)
        return []
    priority = min((Priority(row.priority) for row in rows), key=lambda one: one.rank)
    titles = " · ".join(row.title for row in rows[:DIGEST_TITLES]) + (" …" if len(rows) > DIGEST_TITLES else "")
    subject = Subject(kind="digest", priority=priority)
    number = next_number(connection, client_id).number
    fields: dict[str, str | int] = {"count": len(rows), "titles": titles}
    digest = writing.insert_notification(
        str(uuid.uuid4()), number, subject, fields, client, is_read=True, is_digest=True
    )
    for row in rows:
        _change(
            connection,
            row,
            state=_S.DIGESTED.value,
            reason=HoldReason.RATE_LIMIT.value,
            due_ms=None,
            digest_id=digest.notification_id,
        )
    return writing.insert_delivery(digest, subject, device_queue, Verdict())


def _was_seen(connection: Connection, row: Row[Any]) -> bool:
    """Return whether any device received the notification or it was read."""
    return bool(
        connection.execute(
            select(
                or_(
                    exists().where(
                        deliveries.c.notification_id == row.notification_id,
                        deliveries.c.channel == Channel.IN_APP.value,
                        deliveries.c.state.in_((_S.DELIVERED.value, _S.OPENED.value)),
                    ),
                    exists().where(
                        notifications.c.notification_id == row.notification_id, notifications.c.read_ms.is_not(None)
                    ),
                )
            )
        ).scalar()
    )


def _change(connection: Connection, row: Row[Any], **values: Any) -> None:
    connection.execute(
        update(deliveries)
        .where(
            deliveries.c.notification_id == row.notification_id,
            deliveries.c.channel == row.channel,
            deliveries.c.device_id == row.device_id,
        )
        .values(**values)
    )
