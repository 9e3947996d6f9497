"""References to the services. A reference is a path, so it stays valid across restarts of its actor."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import frozen

from actors.access.messages import AccessRequest
from actors.assistant.messages import AssistantRequest
from actors.connections.messages import RegistryRequest, TakeSocket
from actors.inference.embedding_messages import DescribeEncoder, EmbedTexts
from actors.inference.messages import InferenceRequest
from actors.inference.sandbox_messages import SandboxMessage
from actors.inspection.messages import DescribeTree, NoteWorker
from actors.monitoring.messages import MonitoringRequest
from actors.notifications.messages import DispatcherRequest
from actors.responses.messages import ResponsesRequest
from actors.storage.messages import Storage
from actors.tasks.messages import TaskRequest
from actors.tracing.tracer import Tracer
from runtime import ActorRef, ActorSystem

__all__ = ["References"]


@frozen(kw_only=True)
class References:
    """References that services are given to one another. Actors used within one service only are not included."""

    access: ActorRef[AccessRequest]
    assistant: ActorRef[AssistantRequest]
    connection_listener: ActorRef[TakeSocket]
    connection_registry: ActorRef[RegistryRequest]
    encoder: ActorRef[EmbedTexts | DescribeEncoder]
    inference: ActorRef[InferenceRequest]
    inspection: ActorRef[DescribeTree | NoteWorker]
    monitoring: ActorRef[MonitoringRequest]
    notifications: ActorRef[DispatcherRequest]
    responses: ActorRef[ResponsesRequest]
    sandbox: ActorRef[SandboxMessage]
    storage: Storage
    tasks: ActorRef[TaskRequest[Any]]

    @classmethod
    def of(cls, system: ActorSystem, tracer: Tracer | None = None) -> References:
        """Return the references of a tree, which need not run yet. Paths are the ids used by `application.make_tree` and the specs."""
        storage = Storage(system.reference("storage/writer"), system.reference("storage/readers"))
        return cls(
            access=system.reference("access"),
            assistant=system.reference("assistant"),
            connection_listener=system.reference("connections/listener"),
            connection_registry=system.reference("connections/registry"),
            encoder=system.reference("encoder/encoder"),
            inference=system.reference("inference/inference"),
            inspection=system.reference("inspection"),
            monitoring=system.reference("monitoring"),
            notifications=system.reference("notifications/dispatcher"),
            responses=system.reference("responses"),
            sandbox=system.reference("sandbox/sandbox"),
            storage=storage if tracer is None else attrs.evolve(storage, tracer=tracer),
            tasks=system.reference("tasks"),
        )
