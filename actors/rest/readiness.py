"""`GET /health/ready`: what does not work, as single words for everybody and in full for authorized clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from quart import g, jsonify
from quart_trio import QuartTrio

from actors.errors import CommandError
from actors.inference.messages import DescribeEngine, EngineHealth
from actors.process_memory import memory_problem
from actors.rest.services import Services, identity
from actors.storage.messages import DescribeStorage, StorageHealth
from runtime import RuntimeFault
from runtime.inspection import Readiness

__all__ = ["ReadinessReport", "describe_readiness", "may_know", "register_readiness"]

HEALTH_SECONDS = 1.0


@define
class ReadinessReport:
    """Problems, each as a word and a sentence."""

    reasons: list[tuple[str, str]] = field(factory=list)
    """Reasons why requests cannot be served, or nothing can be stored."""
    degraded: list[tuple[str, str]] = field(factory=list)
    """Other parts that do not work."""

    def as_data(self, *, in_full: bool) -> dict[str, Any]:
        """Body of the answer. Without ``in_full`` it reveals no actor names, paths or addresses."""
        index = 1 if in_full else 0
        data: dict[str, Any] = {
            "status": "not_ready" if self.reasons else "ready",
            # Each word once.
            "reasons": list(dict.fromkeys(one[index] for one in self.reasons)),
        }
        if self.degraded:
            data["degraded"] = list(dict.fromkeys(one[index] for one in self.degraded))
        return data


async def describe_readiness(services: Services, tree: Readiness) -> ReadinessReport:
    """Ask the services involved. One that does not answer counts as a reason."""
    report = ReadinessReport(
        list(zip(tree.words, tree.reasons, strict=True)), [("helper", one) for one in tree.degraded]
    )
    try:
        engine: EngineHealth = await services.inference.ask(DescribeEngine(with_memory=True), timeout=HEALTH_SECONDS)
    except RuntimeFault as error:
        report.reasons.append(("engine", f"the engine cannot be described: {error}"))
    else:
        if engine.state not in ("ready", "unloaded"):
            report.reasons.append(("engine", f"engine is {engine.state}: {engine.problem}"))
        if engine.refuses is not None:
            report.reasons.append(("capacity", f"new requests are refused: {engine.refuses}"))
    try:
        storage: StorageHealth = await services.storage.writer.ask(DescribeStorage(), timeout=HEALTH_SECONDS)
    except RuntimeFault as error:
        report.reasons.append(("storage", f"storage cannot be described: {error}"))
    else:
        if not storage.is_writable:
            report.reasons.append(("storage", f"storage is not writable: {storage.problem}"))
    access_problem: str | None = g.get("access_problem")
    if access_problem is not None:
        report.reasons.append(("access", f"access rights cannot be checked: {access_problem}"))
    shortage = memory_problem()
    if shortage is not None:
        report.reasons.append(("memory", f"not enough memory for new work: {shortage}"))
    return report


def register_readiness(app: QuartTrio, services: Services, readiness: Callable[[], Readiness]) -> None:
    """Register the route. ``readiness`` reads the runtime's records and never waits."""

    @app.get("/health/ready")
    async def ready() -> Any:
        report = await describe_readiness(services, readiness())
        return jsonify(report.as_data(in_full=await may_know(services))), 503 if report.reasons else 200


async def may_know(services: Services) -> bool:
    """True if this client may see details: it has a token, or none is needed."""
    if g.get("access_problem") is not None:
        return False
    try:
        await identity(services)
    except (CommandError, RuntimeFault):
        return False
    return True
