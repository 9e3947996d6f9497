"""References to the services behind the routes. Does not import the web framework, which takes half a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from actors.access.messages import AccessRequest
from actors.assistant.messages import AssistantRequest
from actors.connections.messages import RegistryRequest
from actors.inference.embedding_messages import DescribeEncoder, EmbedTexts
from actors.inference.messages import InferenceRequest
from actors.inspection.messages import DescribeTree
from actors.notifications.messages import DispatcherRequest
from actors.own_command import command_here
from actors.responses.messages import ResponsesRequest
from actors.storage.messages import Storage
from actors.tasks.messages import TaskRequest
from protocol.events import AnswerDefaults
from runtime import ActorRef

__all__ = ["Services"]

DEFAULTS_OF_PROGRAMS = AnswerDefaults(temperature=0.0, top_p=1.0, repetition_penalty=1.0, max_tokens=1024)


@frozen(kw_only=True)
class Services:
    """References to the services behind the routes."""

    access: ActorRef[AccessRequest]
    inference: ActorRef[InferenceRequest]
    encoder: ActorRef[EmbedTexts | DescribeEncoder]
    storage: Storage
    assistant: ActorRef[AssistantRequest]
    responses: ActorRef[ResponsesRequest]
    tasks: ActorRef[TaskRequest[Any]]
    notifications: ActorRef[DispatcherRequest]
    connection_registry: ActorRef[RegistryRequest]
    inspection: ActorRef[DescribeTree]
    answer_defaults: AnswerDefaults = DEFAULTS_OF_PROGRAMS
    """Sampling defaults of requests that set nothing."""
    pull_command: tuple[str, ...] = ()
    """Command that downloads the model whose name follows, reporting progress in lines of JSON."""
    remove_command: tuple[str, ...] = ()
    """Command that removes the model whose name follows."""
    command_line: Callable[..., str] = command_here
    """Formats a `leanvibe` command line as it is typed on this machine."""
