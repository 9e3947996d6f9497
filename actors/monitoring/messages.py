"""Messages of the monitoring service. Other services import this module and nothing else from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from protocol.codec import encode, unstructure, wire_time
from protocol.operator_topics import TraceRecordData, Watch, Watching
from protocol.operators import (
    ActorRestart,
    ActorResume,
    ActorState,
    ActorSuspend,
    EngineKill,
    TokenCreate,
    TokenList,
    TokenRevoke,
)
from runtime import ActorRef, Request

__all__ = [
    "OPERATOR_REQUESTS",
    "Collected",
    "MonitoringRequest",
    "OperatorCommand",
    "TopicCollected",
    "Traced",
    "WatchTopics",
]


@define(eq=False)
class Collected:
    """The state of a topic at one moment, shared by all viewers. Immutable."""

    topic: str
    version: int
    """Increases with each collection that found a change."""
    items: Mapping[str, Any] = field(repr=False)
    """Wire objects by key, in order."""
    rest: Mapping[str, Any] = field(repr=False)
    """Further fields of the message, plain values."""
    _frames: dict[int, bytes] = field(factory=dict, repr=False)

    def frame_since(self, before: Collected | None) -> bytes:
        """Return the message that updates a viewer from ``before``, or the full state if that is None.

        Encoded once for all viewers with the same previous state.
        """
        known = 0 if before is None else before.version
        if known not in self._frames:
            self._frames[known] = self._encoded(before)
        return self._frames[known]

    def _encoded(self, before: Collected | None) -> bytes:
        old: Mapping[str, Any] = {} if before is None else before.items
        data = {
            "is_whole": before is None,
            "changed": [unstructure(one) for key, one in self.items.items() if old.get(key) != one],
            "removed": [key for key in old if key not in self.items],
            **self.rest,
        }
        return encode({"type": f"{self.topic}_changed", "time": wire_time(), "data": data})


@frozen
class TopicCollected:
    """Sent to a viewer: the newest state of a watched topic."""

    collected: Collected


@frozen(kw_only=True)
class Traced:
    """Sent to a viewer: messages received and sent by the traced actor."""

    path: str
    records: tuple[TraceRecordData, ...]
    skipped: int
    is_over: bool


@frozen(kw_only=True)
class WatchTopics(Request[Watching]):
    """Subscribe a viewer to these topics until it changes them or ends. Refused with `CommandError`."""

    viewer: ActorRef[TopicCollected | Traced]
    data: Watch


@frozen(kw_only=True)
class OperatorCommand(Request[Any]):
    """A command of an authorised operator, answered with its result. Refused with `CommandError`."""

    client_id: str
    device_id: str
    data: Any = field(repr=False)
    key: None = None


OPERATOR_REQUESTS: dict[type, type] = dict.fromkeys(
    (ActorState, ActorRestart, ActorSuspend, ActorResume, EngineKill, TokenList, TokenCreate, TokenRevoke),
    OperatorCommand,
)
"""Maps wire classes to requests; `watch` is handled by the connection."""

MonitoringRequest = WatchTopics | OperatorCommand
"""Requests that other services may send to monitoring."""
