"""Hears what other nodes announce, and proves every few seconds that it would hear it."""

from __future__ import annotations

import secrets

import structlog
import trio

from actors.cluster.announcer import OpenCarrier
from actors.cluster.carrier import Announced, Carrier, CarrierUnavailable, Ear, Told
from actors.cluster.lanes import EVERYTHING
from actors.cluster.messages import LOG_TOPIC, CarrierHealth, DescribeCarrier
from actors.storage.messages import LogsAdvanced
from runtime import Actor, ActorRef, SendFault, reject

__all__ = ["Hearer"]

_log = structlog.get_logger("cluster")

TOPICS = (LOG_TOPIC,)
PROOF_SECONDS = 5.0
DEAF_SECONDS = 15.0
"""Without a word of its own for so long the node listens again from the start: a broker that came back may hold other positions."""
REST_SECONDS = 0.5


class Hearer(Actor[DescribeCarrier]):
    """Passes on that a client's log has grown. Whatever it may have missed, every connection reads."""

    mailbox = reject(64)

    def __init__(self, node: str, open_carrier: OpenCarrier, registry: ActorRef[LogsAdvanced]) -> None:
        self._node = node
        self._open = open_carrier
        self._registry = registry
        self._problem: str | None = "this node does not listen yet"
        self._proof = b""
        self._proven_at = 0.0
        self._heard = 0

    async def started(self) -> None:
        """Begin to listen; the broker may be away."""
        self.context.spawn(self._live)

    async def handle(self, message: DescribeCarrier) -> CarrierHealth:
        return CarrierHealth(problem=self._problem)

    def snapshot(self) -> dict[str, object]:
        """Counts and the last problem."""
        return {"heard": self._heard, "problem": self._problem}

    async def _live(self) -> None:
        while True:
            try:
                async with self._open() as carrier, carrier.listen(TOPICS) as ear, trio.open_nursery() as nursery:
                    self._proven_at = trio.current_time()
                    self._all_may_have_advanced()
                    nursery.start_soon(self._prove, carrier)
                    await self._hear(ear)
                    nursery.cancel_scope.cancel(reason="listening again")
            except (CarrierUnavailable, BaseExceptionGroup) as error:
                if isinstance(error, BaseExceptionGroup) and error.split(CarrierUnavailable)[1] is not None:
                    raise
                self._note(str(error) if isinstance(error, CarrierUnavailable) else str(error.exceptions[0]))
            await trio.sleep(REST_SECONDS)

    async def _hear(self, ear: Ear) -> None:
        """Until nothing of its own came for too long."""
        while trio.current_time() - self._proven_at < DEAF_SECONDS:
            try:
                heard = await ear.hear()
            except CarrierUnavailable as error:
                self._note(str(error))
                await trio.sleep(REST_SECONDS)
                continue
            for one in heard:
                self._take(one)
        self._note("a message that this node sent to itself did not arrive")

    async def _prove(self, carrier: Carrier) -> None:
        while True:
            self._proof = secrets.token_bytes(16)
            try:
                await carrier.tell(self._node, b"proof " + self._proof)
            except CarrierUnavailable as error:
                self._note(str(error))
            await trio.sleep(PROOF_SECONDS)

    def _take(self, one: Told | Announced) -> None:
        match one:
            case Told(message) if message == b"proof " + self._proof:
                self._proven_at = trio.current_time()
                if self._problem is not None:
                    _log.info("receiving announcements again")
                    self._problem = None
                    self.context.note_problem(None)
                    # What was announced meanwhile may be lost with the broker's data.
                    self._all_may_have_advanced()
            case Announced(topic, key, node) if topic == LOG_TOPIC and node != self._node:
                self._heard += 1
                self._tell(LogsAdvanced(None if key == EVERYTHING else key))
            case _:
                # Of a newer program, or our own.
                pass

    def _all_may_have_advanced(self) -> None:
        self._tell(LogsAdvanced())

    def _tell(self, message: LogsAdvanced) -> None:
        if self._registry.is_running:
            try:
                self._registry.tell_nowait(message)
            except SendFault:
                _log.debug("the registry takes nothing now; the log watch tells it")

    def _note(self, problem: str) -> None:
        if self._problem is None:
            _log.warning("announcements are not received; logs are polled every few seconds", problem=problem)
        self._problem = problem
        self.context.note_problem(problem)
