"""Converts records of the runtime and metrics, and answers of other services, to wire objects. Never asks or blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry

from actors.connections.messages import DeviceConnected
from actors.inference.messages import EngineHealth, ModelDetails
from actors.process_memory import resident_bytes
from actors.request_log import RequestLog, RequestTimes
from protocol.codec import unstructure
from protocol.operator_topics import (
    CalibrationData,
    CalibrationPoint,
    ConnectedDevice,
    DeadLetterData,
    EngineData,
    MailboxData,
    MetricsPoint,
    ModelData,
    RequestData,
    TreeNodeData,
)
from runtime import ActorSystem
from runtime.inspection import TreeNode, readiness, tree

__all__ = [
    "Clocks",
    "MetricsReader",
    "TreeReader",
    "dead_letters",
    "device_data",
    "engine_data",
    "model_data",
    "requests",
    "tree_state",
]

CHILDREN = 200
"""Children sent per supervisor, newest first, well within a frame."""
DEVICES = 1000
"""Connected devices sent."""
ERROR_CHARACTERS = 2000
PUSH_CHANNELS = ("notifications/web_push", "notifications/apns", "notifications/webhook")


@define
class Clocks:
    """Converts Trio's clock to the wall clock as of one moment; a sleep of the machine moves them apart."""

    now: float
    """Trio's clock, seconds."""
    now_ms: int
    """POSIX milliseconds."""

    def ms(self, time: float) -> int:
        """Convert a time on Trio's clock to POSIX milliseconds."""
        return round(self.now_ms - 1000 * (self.now - time))


@define
class TreeReader:
    """Reads the tree with message rates since the previous reading."""

    _handled: dict[tuple[str, int], int] = field(factory=dict)
    _started: dict[tuple[str, int], int] = field(factory=dict)
    _read_at: float | None = None

    def read(self, system: ActorSystem, clocks: Clocks) -> dict[str, TreeNodeData]:
        """Return every child by path, parents before children."""
        seconds = None if self._read_at is None else max(1e-6, clocks.now - self._read_at)
        before, started = self._handled, self._started
        self._handled, self._started, self._read_at = {}, {}, clocks.now
        found: dict[str, TreeNodeData] = {}
        for node in _walk(tree(system)):
            life = (node.path, node.incarnation)
            rate = None
            if node.handled is not None:
                self._handled[life] = node.handled
                if seconds is not None and life in before:
                    rate = round(max(0, node.handled - before[life]) / seconds, 1)
            if node.uptime_seconds is not None:
                # Said once: what is worked out anew each time would differ by a millisecond now and then.
                self._started[life] = started.get(life) or clocks.ms(clocks.now - node.uptime_seconds)
            found[node.path] = _node(node, rate, self._started.get(life))
        return found


def _walk(node: TreeNode) -> Iterator[TreeNode]:
    yield node
    for child in node.children[-CHILDREN:]:
        yield from _walk(child)


def _node(node: TreeNode, rate: float | None, started_ms: int | None) -> TreeNodeData:
    box = node.mailbox
    return TreeNodeData(
        path=node.path,
        kind=node.kind,
        state=node.state,
        incarnation=node.incarnation,
        restarts=node.restarts,
        restarts_in_window=node.restarts_in_window,
        intensity=node.intensity,
        started_ms=started_ms,
        ready_seconds=_rounded(node.ready_seconds),
        recovery_seconds=_rounded(node.recovery_seconds),
        mailbox=None
        if box is None
        else MailboxData(
            used=box.used,
            capacity=box.capacity,
            peak=box.peak,
            dropped=box.dropped,
            blocked_senders=box.blocked_senders,
        ),
        handled=node.handled,
        messages_per_second=rate,
        current_message=node.current_message,
        current_age_seconds=_rounded(node.current_age_seconds),
        handler_failures=dict(node.handler_failures),
        last_error=None if node.last_error is None else node.last_error[:ERROR_CHARACTERS],
        children_left_out=max(0, len(node.children) - CHILDREN),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def tree_state(system: ActorSystem) -> dict[str, Any]:
    """Return the totals that accompany the tree."""
    state, watch = readiness(system), system.loop_watchdog
    return {
        "is_ready": state.is_ready,
        "reasons": list(state.reasons),
        "degraded": list(state.degraded),
        "slow_steps": 0 if watch is None else watch.slow_count,
    }


def dead_letters(
    system: ActorSystem, clocks: Clocks, known: Mapping[str, DeadLetterData]
) -> tuple[dict[str, DeadLetterData], dict[str, Any]]:
    """Return the latest dead letters by number, and all counts. ``known`` ones are reused unchanged, because clocks drift."""
    letters = system.dead_letters
    first = letters.total - len(letters.last) + 1
    found = {
        str(number): known.get(str(number))
        or DeadLetterData(
            id=str(number),
            path=one.path,
            message_type=type(one.message).__name__,
            reason=one.reason,
            time_ms=clocks.ms(one.time),
        )
        for number, one in enumerate(letters.last, first)
    }
    return found, {"total": letters.total, "counts": dict(letters.counts)}


def requests(log: RequestLog, clocks: Clocks, known: Mapping[str, RequestData]) -> dict[str, RequestData]:
    """Return all logged requests by number. ``known`` ones that have ended are reused unchanged."""
    return {str(number): _request(str(number), one, clocks, known.get(str(number))) for number, one in log.all()}


def _request(number: str, one: RequestTimes, clocks: Clocks, known: RequestData | None) -> RequestData:
    if known is not None and one.outcome is not None and known.end_reason == one.outcome:
        return known
    end = clocks.now if one.ended_at is None else one.ended_at
    first_token_at = one.first_token_at
    if one.outcome is not None:
        state = "ended"
    elif one.admitted_at is None:
        state = "queued"
    else:
        state = "prefill" if first_token_at is None else "decode"
    admitted_at, prefilled_at = one.admitted_at, end if first_token_at is None else first_token_at
    return RequestData(
        id=number,
        client_id=one.client_id,
        model=one.model,
        state=state,
        end_reason=one.outcome,
        accepted_ms=clocks.ms(one.accepted_at) if known is None else known.accepted_ms,
        queued_ms=_ms((end if admitted_at is None else admitted_at) - one.accepted_at),
        prefill_ms=None if admitted_at is None else _ms(prefilled_at - admitted_at),
        decode_ms=None if first_token_at is None else _ms(end - first_token_at),
        prompt_tokens=one.prompt_tokens,
        cached_tokens=one.cached_tokens,
        answer_tokens=one.answer_tokens,
        engine_restarts=one.engine_restarts,
    )


def _ms(seconds: float) -> float:
    return round(1000 * max(0.0, seconds), 1)


@define
class MetricsReader:
    """Reads current figures, and rates since the previous reading."""

    registry: CollectorRegistry
    log: RequestLog
    _before: tuple[float, float, float] | None = None
    """Time on Trio's clock, tokens and steps at the previous reading."""

    def read(self, clocks: Clocks, nodes: Mapping[str, TreeNodeData], late_seconds: float) -> MetricsPoint:
        """Read one point. ``nodes`` is the current tree; ``late_seconds`` is the delay of this reading."""
        found = {
            (one.name, *one.labels.values()): one.value
            for metric in self.registry.collect()
            for one in metric.samples
            if not one.name.endswith(("_bucket", "_created"))
        }
        # Each token is the first of its answer or comes after another.
        tokens = sum(
            found.get((f"leanvibe_{name}_seconds_count",), 0.0)
            for name in ("time_to_first_token", "inter_token_latency")
        )
        steps = found.get(("leanvibe_engine_steps_total",), 0.0)
        before, self._before = self._before, (clocks.now, tokens, steps)
        per_second = per_step = None
        if before is not None and clocks.now > before[0]:
            per_second = round((tokens - before[1]) / (clocks.now - before[0]), 1)
            per_step = round((tokens - before[1]) / (steps - before[2]), 2) if steps > before[2] else None
        queried = found.get(("leanvibe_prefix_cache_queries_total",), 0.0)
        hits = found.get(("leanvibe_prefix_cache_hits_total",), 0.0)
        boxes = (nodes[one].mailbox for one in PUSH_CHANNELS if one in nodes)
        memory = {key[1]: value for key, value in found.items() if key[0] == "leanvibe_engine_memory_bytes"}
        return MetricsPoint(
            time_ms=clocks.now_ms,
            tokens_per_second=per_second,
            tokens_per_step=per_step,
            first_token_p50_ms=_first_token_ms(self.log, 0.5),
            first_token_p99_ms=_first_token_ms(self.log, 0.99),
            running=int(found.get(("leanvibe_num_requests_running",), 0)),
            waiting=int(found.get(("leanvibe_num_requests_waiting",), 0)),
            kv_bytes=memory.get("kv"),
            prefix_bytes=memory.get("prefixes"),
            prefix_hit_rate=round(hits / queried, 4) if queried else None,
            engine_memory_bytes=memory.get("resident"),
            server_memory_bytes=resident_bytes(),
            event_loop_delay_ms=_ms(late_seconds),
            push_queue=sum(one.used for one in boxes if one is not None),
        )


def _first_token_ms(log: RequestLog, share: float) -> float | None:
    seconds = log.first_token_quantile(share)
    return None if seconds is None else _ms(seconds)


def engine_data(health: EngineHealth) -> dict[str, Any]:
    """Return the active engine as plain values."""
    report = health.report
    data = EngineData(
        state=health.state,
        model=health.model,
        problem=health.problem,
        worker_pid=health.worker_pid,
        restarts=health.restarts,
        memory_bytes=dict(health.memory),
        memory_bound_bytes=health.memory_bound_bytes,
        canary_nll=report.get("canary_nll"),
        checks=list(report.get("checks", ())),
        warnings=list(report.get("warnings", ())),
        changing_to=health.changing_to,
        change_stage=health.change_stage,
    )
    plain: dict[str, Any] = unstructure(data)
    return plain


def model_data(models: Iterable[ModelDetails]) -> dict[str, ModelData]:
    """Return all models by full name."""
    return {one.state.full_name: _model(one) for one in models}


def _model(one: ModelDetails) -> ModelData:
    state = one.state
    calibration = None
    if one.calibration is not None:
        items, points = one.calibration
        calibration = CalibrationData(
            items=items, points=[CalibrationPoint(confidence=confidence, rate=rate) for confidence, rate in points]
        )
    return ModelData(
        name=state.name,
        full_name=state.full_name,
        state=state.state,
        is_in_use=state.is_in_use,
        stage=state.stage,
        running=state.running,
        size_bytes=state.size_bytes,
        need_bytes=one.need_bytes,
        type=state.type,
        quantization=state.quantization,
        provenance=state.provenance,
        source=state.source,
        digest=state.digest,
        calibration=calibration,
    )


def device_data(devices: Iterable[DeviceConnected]) -> dict[str, ConnectedDevice]:
    """Return connected devices by client and device."""
    found = {
        f"{one.client_id}/{one.device_id}": ConnectedDevice(
            id=f"{one.client_id}/{one.device_id}",
            client_id=one.client_id,
            device_id=one.device_id,
            connections=one.connections,
        )
        for one in devices
    }
    return dict(list(found.items())[:DEVICES])
