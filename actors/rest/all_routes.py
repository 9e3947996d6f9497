"""The complete REST application, assembled from every group of routes."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from quart_trio import QuartTrio

from actors.rest.anthropic.routes import register_anthropic
from actors.rest.application import make_application
from actors.rest.assistant import register_assistant
from actors.rest.console import register_console
from actors.rest.conversations import register_conversations
from actors.rest.entry_by_code import register_entry_by_code
from actors.rest.mcp.routes import register_mcp
from actors.rest.notifications import register_notifications
from actors.rest.ollama.routes import register_ollama
from actors.rest.openai.embeddings import register_embeddings
from actors.rest.openai.routes import register_openai
from actors.rest.program_setups import register_program_setups
from actors.rest.push import register_push
from actors.rest.references import Services
from actors.rest.responses.conversations import register_response_conversations
from actors.rest.responses.routes import register_responses
from actors.rest.subscriptions import register_subscriptions
from actors.rest.tasks import register_tasks
from actors.version import VERSION
from runtime.inspection import Readiness

__all__ = ["make_whole_application"]


def make_whole_application(
    *, services: Services, registry: CollectorRegistry, readiness: Callable[[], Readiness]
) -> QuartTrio:
    """Build the application with every route. Blocking. ``readiness`` reads the runtime's records and never waits."""
    return make_application(
        services=services,
        registry=registry,
        readiness=readiness,
        about={"service": "leanvibe", "version": VERSION},
        parts=(
            register_assistant,
            register_console,
            register_conversations,
            register_entry_by_code,
            register_openai,
            register_responses,
            register_response_conversations,
            register_embeddings,
            register_anthropic,
            register_ollama,
            register_mcp,
            register_notifications,
            register_program_setups,
            register_push,
            register_subscriptions,
            register_tasks,
        ),
    )
