"""What the monitoring service takes and tells. Other services import this file and nothing else of it."""

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
    """The whole state of one topic at one moment, shared by all who watch it. Nobody changes it."""

    topic: str
    version: int
    """Rises with each collection that found a change."""
    items: Mapping[str, Any] = field(repr=False)
    """Wire objects by their keys, in order."""
    rest: Mapping[str, Any] = field(repr=False)
    """What the message has besides, plain values."""
    _frames: dict[int, bytes] = field(factory=dict, repr=False)

    def frame_since(self, before: Collected | None) -> bytes:
        """The message that brings a viewer from ``before`` to here; all of it where it has seen nothing.

        Encoded once for all who stand at the same place.
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
    """To a viewer: the newest state of a topic that it watches."""

    collected: Collected


@frozen(kw_only=True)
class Traced:
    """To a viewer: what the actor that it traces was sent and has sent."""

    path: str
    records: tuple[TraceRecordData, ...]
    skipped: int
    is_over: bool


@frozen(kw_only=True)
class WatchTopics(Request[Watching]):
    """From a viewer: tell it these topics until it says otherwise or ends. Refused with `CommandRefused`."""

    viewer: ActorRef[TopicCollected | Traced]
    data: Watch


@frozen(kw_only=True)
class OperatorCommand(Request[Any]):
    """A command of an operator, whose right to it was checked; answered with its result. Refused with `CommandRefused`."""

    client_id: str
    device_id: str
    data: Any = field(repr=False)
    key: None = None


OPERATOR_REQUESTS: dict[type, type] = dict.fromkeys(
    (ActorState, ActorRestart, ActorSuspend, ActorResume, EngineKill, TokenList, TokenCreate, TokenRevoke),
    OperatorCommand,
)
"""Wire class → the request that monitoring is asked; `watch` is the connection's own."""

MonitoringRequest = WatchTopics | OperatorCommand
"""All that others may ask of monitoring."""
