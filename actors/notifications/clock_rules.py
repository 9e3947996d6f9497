"""What waits for an hour is held against now, so that a clock that ran ahead delays nothing. Over a connection."""

from __future__ import annotations

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, and_, case, exists, or_, select, update

from actors.clock import now_milliseconds
from actors.notifications.preference_rules import HoldReason
from actors.notifications.tables import deliveries, devices
from actors.storage.messages import Operation, Outcome, Query
from protocol.notifications import DeliveryState

__all__ = ["IS_AHEAD", "SETTLE", "ClockRules"]


@frozen(kw_only=True)
class ClockRules:
    """How far ahead of now something may rightly wait."""

    set_back_ms: int = 0
    """By how much the clock was set back since the hours were written down; 0 where nobody knows."""
    longest_wait_ms: int
    """Between two tries on one device."""
    push_hold_ms: int
    """Of a push that a device may show anyway."""


def is_ahead(connection: Connection, rules: ClockRules) -> bool:
    """Is there anything that `settle` would change?"""
    now_ms = now_milliseconds()
    waits = devices.c.due_ms > (now_ms if rules.set_back_ms else now_ms + rules.longest_wait_ms)
    return bool(connection.execute(select(or_(exists().where(waits), exists().where(_held(rules, now_ms))))).scalar())


def settle(connection: Connection, rules: ClockRules) -> Outcome[int]:
    """Let nothing wait longer than it may; answers how many rows were changed.

    What waits for its next try waits for as long as it would have. What is held is due: it is judged again by the
    hour that it is now, and held anew for good reasons.
    """
    now_ms = now_milliseconds()
    changed = 0
    if rules.set_back_ms:
        earlier = devices.c.due_ms - rules.set_back_ms
        shifted = update(devices).where(devices.c.due_ms > now_ms)
        changed += connection.execute(shifted.values(due_ms=case((earlier > now_ms, earlier), else_=now_ms))).rowcount
    too_far = devices.c.due_ms > now_ms + rules.longest_wait_ms
    changed += connection.execute(update(devices).where(too_far).values(due_ms=now_ms)).rowcount
    changed += connection.execute(update(deliveries).where(_held(rules, now_ms)).values(due_ms=now_ms)).rowcount
    return Outcome(value=int(changed))


def _held(rules: ClockRules, now_ms: int) -> ColumnElement[bool]:
    """Held beyond what can be told without judging it again."""
    is_short = deliveries.c.reason == HoldReason.SEEN_ELSEWHERE.value
    return and_(
        deliveries.c.state == DeliveryState.HELD.value,
        or_(
            and_(~is_short, deliveries.c.due_ms > now_ms),
            and_(is_short, deliveries.c.due_ms > now_ms + rules.push_hold_ms),
        ),
    )


IS_AHEAD: Query[ClockRules, bool] = Query("notifications.is_ahead", is_ahead)
SETTLE: Operation[ClockRules, int] = Operation("notifications.settle", settle, int)
