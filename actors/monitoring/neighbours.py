"""Converts answers of other services to wire objects. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.connections.messages import DeviceConnected
from actors.inference.messages import EngineHealth, ModelDetails
from protocol.codec import unstructure
from protocol.operator_topics import CalibrationData, CalibrationPoint, ConnectedDevice, EngineData, ModelData

__all__ = ["device_data", "engine_data", "model_data"]

DEVICES = 1000


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
