"""Reports readiness, status and liveness to the service manager, only while they are true."""

from __future__ import annotations

import structlog
from attrs import frozen

from actors.inference.messages import DescribeEngine, EngineHealth, InferenceRequest
from actors.service_manager.notify_socket import NotifySocket
from actors.service_manager.sign_of_life import beat_seconds, problem_of_engine
from runtime import Actor, ActorRef, RuntimeFault, reject

__all__ = ["ServiceManager"]

_log = structlog.get_logger("service")

ASK_SECONDS = 2.0


@frozen
class Beat:
    """Timer: check and report."""


class ServiceManager(Actor[Beat]):
    """The last child of the tree, so that its start means that all others have started.

    It runs in the event loop, so a blocked loop reports nothing; it asks the inference actor, so an unresponsive tree reports
    nothing; and it withholds `WATCHDOG=1` while a worker that should make steps is silent.
    """

    mailbox = reject(4)

    def __init__(self, manager: NotifySocket, inference: ActorRef[InferenceRequest]) -> None:
        self._manager = manager
        self._inference = inference
        self._problem: str | None = None
        self._withheld = 0
        """Number of withheld watchdog messages."""

    async def started(self) -> None:
        """Report that the server accepts connections."""
        self._manager.send("READY=1", status="up; the model is loading")
        self.context.after(0, Beat())

    async def handle(self, message: Beat) -> None:
        """Query the engine's state and report it."""
        problem: str | None
        try:
            engine: EngineHealth = await self._inference.ask(DescribeEngine(), timeout=ASK_SECONDS)
        except RuntimeFault as error:
            problem, status = f"the inference service does not answer: {error}", ""
        else:
            problem = problem_of_engine(engine)
            status = f"{engine.model} is {engine.state}, {engine.running} running, {engine.queue_depth} waiting"
        if problem is None:
            alive = () if self._manager.watchdog_seconds is None else ("WATCHDOG=1",)
            self._manager.send(*alive, status=status)
        else:
            self._withheld += 1
            self._manager.send(status=problem)
            if self._problem is None:
                _log.error("watchdog message withheld", problem=problem)
        self._problem = problem
        self.context.after(beat_seconds(self._manager.watchdog_seconds), Beat())

    def snapshot(self) -> dict[str, object]:
        """The last report."""
        return {"problem": self._problem, "withheld": self._withheld}
