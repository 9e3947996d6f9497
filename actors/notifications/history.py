"""History of notifications: statistics, dead letters and their resending, and delivery receipts of devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, and_, exists, func, or_, select, update

from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.notifications.delivery_rules import GIVEN_UP, SUBSCRIPTION_GONE
from actors.notifications.fan_out import IN_APP_DEVICE
from actors.notifications.messages import DeadLetter, DeadLetterPage, Marked, Resent, Statistics
from actors.notifications.rows import as_delivery, as_notification, wake_device
from actors.notifications.tables import deliveries, devices, notifications
from actors.storage.messages import Operation, Outcome, Query
from protocol.errors import ErrorCode
from protocol.notifications import Channel, DeliveryState, HistoryEntry, HistoryPage

__all__ = [
    "DEAD_LETTERS",
    "HISTORY",
    "HISTORY_OPERATIONS",
    "HISTORY_QUERIES",
    "MARK",
    "RESEND",
    "STATISTICS",
    "DeliveryMark",
    "Page",
    "Resending",
    "percentiles",
]

_S = DeliveryState
SAMPLE_ROWS = 10_000
"""Number of the newest deliveries per channel from which percentiles are computed."""


@frozen(kw_only=True)
class Page:
    """Arguments for a page of one client, newest first."""

    client_id: str
    cursor: str | None = None
    limit: int = 50


def read_history(connection: Connection, command: Page) -> HistoryPage:
    """Return notifications and digests with the state of each delivery."""
    rows = connection.execute(
        select(notifications)
        .where(notifications.c.client_id == command.client_id, notifications.c.number < _before(command.cursor))
        .order_by(notifications.c.number.desc())
        .limit(command.limit + 1)
    ).all()
    shown = rows[: command.limit]
    by_notification: dict[str, list[Any]] = {row.notification_id: [] for row in shown}
    if shown:
        for delivery in connection.execute(
            select(deliveries)
            .where(deliveries.c.notification_id.in_(list(by_notification)))
            .order_by(deliveries.c.channel, deliveries.c.device_id)
        ):
            by_notification[delivery.notification_id].append(as_delivery(delivery))
    return HistoryPage(
        entries=[
            HistoryEntry(notification=as_notification(row), deliveries=by_notification[row.notification_id])
            for row in shown
        ],
        next=str(shown[-1].number) if len(rows) > command.limit else None,
    )


def _before(cursor: str | None) -> int:
    if cursor is None:
        return 2**62
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise CommandError(ErrorCode.INVALID_FIELD, "cursor does not belong to this list", field="cursor")
    return int(cursor)


# --- figures ------------------------------------------------------------------------------------------


def read_statistics(connection: Connection, client_id: str) -> Statistics:
    """Return counts over all stored deliveries and percentiles over the newest of each channel."""
    # A device's own rows of in-app notifications repeat what the client's row says.
    counted = and_(
        deliveries.c.client_id == client_id,
        or_(deliveries.c.channel != Channel.IN_APP.value, deliveries.c.device_id == IN_APP_DEVICE),
    )
    by_channel: dict[str, dict[str, int]] = {}
    for row in connection.execute(
        select(deliveries.c.channel, deliveries.c.state, func.count().label("number"))
        .where(counted)
        .group_by(deliveries.c.channel, deliveries.c.state)
    ):
        by_channel.setdefault(row.channel, {})[row.state] = int(row.number)

    def of(*states: DeliveryState) -> int:
        return sum(one.get(state.value, 0) for one in by_channel.values() for state in states)

    given_up = connection.execute(
        select(func.count()).select_from(deliveries).where(counted, _failed_for_good())
    ).scalar_one()
    return Statistics(
        by_channel=by_channel,
        sent=of(_S.SENT, _S.DELIVERED, _S.OPENED),
        delivered=of(_S.DELIVERED, _S.OPENED),
        opened=of(_S.OPENED),
        failed=int(given_up),
        latency_ms=_latencies(connection, counted, deliveries.c.sent_ms),
        delivery_ms=_latencies(connection, counted, deliveries.c.delivered_ms),
    )


def _latencies(connection: Connection, counted: Any, until: Any) -> dict[str, dict[str, float]]:
    """Return percentiles per channel of the time from the cause to ``until``."""
    found: dict[str, dict[str, float]] = {}
    for channel in Channel:
        values = (
            connection.execute(
                select(until - notifications.c.created_ms)
                .select_from(deliveries)
                .join(notifications, notifications.c.notification_id == deliveries.c.notification_id)
                .where(counted, deliveries.c.channel == channel.value, until.is_not(None))
                .order_by(deliveries.c.number.desc())
                .limit(SAMPLE_ROWS)
            )
            .scalars()
            .all()
        )
        if values:
            found[channel.value] = percentiles(values)
    return found


def percentiles(values: Sequence[int]) -> dict[str, float]:
    """Return `p50`, `p95` and `p99` by nearest rank. ``values`` must not be empty."""
    ordered = sorted(values)
    return {f"p{percent}": float(ordered[max(0, -(-len(ordered) * percent // 100) - 1)]) for percent in (50, 95, 99)}


# --- dead letters -------------------------------------------------------------------------------------


def _failed_for_good() -> Any:
    """Condition for deliveries that were refused or given up, as opposed to superseded ones."""
    return or_(
        deliveries.c.state == _S.DEAD.value,
        and_(
            deliveries.c.state == _S.DISCARDED.value,
            or_(deliveries.c.reason.startswith(GIVEN_UP), deliveries.c.reason == SUBSCRIPTION_GONE),
        ),
    )


def list_dead_letters(connection: Connection, command: Page) -> DeadLetterPage:
    """Return dead letters, newest first; those of one notification are never split over pages."""
    mine = and_(deliveries.c.client_id == command.client_id, _failed_for_good())
    numbers = (
        connection.execute(
            select(deliveries.c.number)
            .where(mine, deliveries.c.number < _before(command.cursor))
            .distinct()
            .order_by(deliveries.c.number.desc())
            .limit(command.limit + 1)
        )
        .scalars()
        .all()
    )
    shown = numbers[: command.limit]
    rows = connection.execute(
        select(
            notifications,
            deliveries.c.channel,
            deliveries.c.device_id,
            deliveries.c.state,
            deliveries.c.reason,
            deliveries.c.attempts,
        )
        .join(deliveries, deliveries.c.notification_id == notifications.c.notification_id)
        .where(mine, deliveries.c.number.in_(shown))
        .order_by(notifications.c.number.desc(), deliveries.c.device_id)
    )
    return DeadLetterPage(
        dead_letters=[
            DeadLetter(
                notification=as_notification(row),
                channel=row.channel,
                device_id=row.device_id,
                state=DeliveryState(row.state),
                reason=row.reason or "",
                attempts=row.attempts,
            )
            for row in rows
        ],
        next=str(shown[-1]) if len(numbers) > command.limit else None,
    )


@frozen(kw_only=True)
class Resending:
    """Arguments of `resend`."""

    client_id: str
    notification_id: str


def resend(connection: Connection, command: Resending) -> Outcome[Resent]:
    """Requeue the failed deliveries with a fresh set of attempts, except for devices that are gone."""
    rows = connection.execute(
        select(deliveries).where(
            deliveries.c.client_id == command.client_id,
            deliveries.c.notification_id == command.notification_id,
            _failed_for_good(),
            exists().where(
                devices.c.client_id == deliveries.c.client_id,
                devices.c.device_id == deliveries.c.device_id,
                devices.c.channel == deliveries.c.channel,
            ),
        )
    ).all()
    for row in rows:
        connection.execute(
            update(deliveries)
            .where(
                deliveries.c.notification_id == row.notification_id,
                deliveries.c.channel == row.channel,
                deliveries.c.device_id == row.device_id,
            )
            .values(state=_S.PENDING.value, reason=None, attempts=0, due_ms=None)
        )
        wake_device(connection, command.client_id, row.device_id, now_milliseconds())
    return Outcome(value=Resent(resent=len(rows)))


# --- devices' own words -------------------------------------------------------------------------------


@frozen(kw_only=True)
class DeliveryMark:
    """Receipt of a device that shows a notification, or on which a person opened it."""

    client_id: str
    notification_id: str
    device_id: str
    state: DeliveryState


def mark(connection: Connection, command: DeliveryMark) -> Outcome[Marked]:
    """Record a device's receipt for a delivery that was sent to it. Opening also marks as read."""
    now_ms = now_milliseconds()
    earlier = (_S.SENT, _S.DELIVERED) if command.state is _S.OPENED else (_S.SENT,)
    values: dict[str, Any] = {
        "state": command.state.value,
        "delivered_ms": func.coalesce(deliveries.c.delivered_ms, now_ms),
    }
    if command.state is _S.OPENED:
        values["opened_ms"] = now_ms
    mine = and_(
        deliveries.c.client_id == command.client_id,
        deliveries.c.notification_id == command.notification_id,
        deliveries.c.device_id == command.device_id,
    )
    if not connection.execute(select(exists().where(mine))).scalar():
        raise CommandError(ErrorCode.NOT_FOUND, "nothing of this notification was sent to this device")
    changed = connection.execute(
        update(deliveries).where(mine, deliveries.c.state.in_([one.value for one in earlier])).values(**values)
    ).rowcount
    if command.state is _S.OPENED:
        connection.execute(
            update(notifications)
            .where(notifications.c.notification_id == command.notification_id, notifications.c.read_ms.is_(None))
            .values(read_ms=now_ms)
        )
    return Outcome(value=Marked(changed=bool(changed)))


HISTORY: Query[Page, HistoryPage] = Query("notifications.history", read_history)
STATISTICS: Query[str, Statistics] = Query("notifications.statistics", read_statistics)
DEAD_LETTERS: Query[Page, DeadLetterPage] = Query("notifications.dead_letters", list_dead_letters)
RESEND: Operation[Resending, Resent] = Operation("notifications.resend", resend, Resent)
MARK: Operation[DeliveryMark, Marked] = Operation("notifications.mark", mark, Marked)
HISTORY_OPERATIONS: tuple[Operation[Any, Any], ...] = (RESEND, MARK)
HISTORY_QUERIES: tuple[Query[Any, Any], ...] = (HISTORY, STATISTICS, DEAD_LETTERS)
