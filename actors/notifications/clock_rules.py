"""Corrects due times written by a clock that was ahead, so that they delay nothing. Functions over a connection."""

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
    """Bounds on how far in the future a due time may legitimately lie."""

    set_back_ms: int = 0
    """Amount by which the clock was set back since the times were written; 0 if unknown."""
    longest_wait_ms: int
    """Longest wait between two attempts on one device."""
    push_hold_ms: int
    """Longest hold of a push that a device may show anyway."""


def is_ahead(connection: Connection, rules: ClockRules) -> bool:
    """True if `settle` would change anything."""
    now_ms = now_milliseconds()
    waits = devices.c.due_ms > (now_ms if rules.set_back_ms else now_ms + rules.longest_wait_ms)
    return bool(connection.execute(select(or_(exists().where(waits), exists().where(_held(rules, now_ms))))).scalar())


def settle(connection: Connection, rules: ClockRules) -> Outcome[int]:
    """Shorten waits that exceed their bound. Returns the number of rows changed.

    A retry keeps its remaining wait. A held delivery becomes due: it is judged again at the current time, and held again
    if there is still a reason.
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
    """Condition for deliveries held longer than is plausible without judging them again."""
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
