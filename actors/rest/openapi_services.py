"""Routes of `/openapi.json` other than those of tasks, each with a summary, its body and an example that works."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["EXAMPLES", "other_paths"]

_ANY = {"type": "object"}
_NAMES = {
    "client_id": "me",
    "device_id": "browser",
    "name": "embedded",
    "notification_id": "00000000",
    "conversation": "one",
    "response_id": "resp_0",
    "conversation_id": "conv_0",
    "item": "msg_0",
}
_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("get", "/health", "The whole state: tree and engine"),
    ("get", "/health/live", "200 while the event loop turns"),
    ("get", "/health/ready", "200 when it can serve requests, else 503 with reasons"),
    ("get", "/health/mlx", "The engine"),
    ("get", "/metrics", "Prometheus metrics"),
    ("get", "/openapi.json", "This document"),
    ("get", "/", "The console; programs get links to the other pages"),
    ("get", "/console/version", "The version of the console's files"),
    ("post", "/console/enter", "Exchange the code of a console link for a token, once"),
    ("get", "/docs", "Swagger UI for these routes"),
    ("get", "/push", "The page that subscribes a browser to notifications"),
    ("get", "/push/key", "The public key for push subscriptions"),
    ("post", "/ai/process", "Answer a message, or carry out an intent on code"),
    ("post", "/ai/complete", "Complete code"),
    ("get", "/conversations/{client_id}", "The client's conversations"),
    ("get", "/conversations/{client_id}/{name}", "A conversation with its turns"),
    ("delete", "/conversations/{client_id}/{name}", "Delete a conversation"),
    ("get", "/conversations/{client_id}/{name}/export", "A conversation as JSON or Markdown (`format`)"),
    ("get", "/models", "List models"),
    ("post", "/models/{name}/load", "Change the model in use"),
    ("post", "/models/{name}/unload", "Unload the model"),
    ("get", "/v1/models", "OpenAI's list of models"),
    ("get", "/v1/models/{name}", "OpenAI's description of a model"),
    ("post", "/v1/chat/completions", "OpenAI's chat completions"),
    ("post", "/v1/completions", "OpenAI's completions"),
    ("post", "/v1/responses", "OpenAI's responses"),
    ("get", "/v1/responses/{response_id}", "A stored response, or its events from any position"),
    ("delete", "/v1/responses/{response_id}", "Delete a stored response"),
    ("post", "/v1/responses/{response_id}/cancel", "Cancel a response"),
    ("get", "/v1/responses/{response_id}/input_items", "The input items of a response"),
    ("post", "/v1/conversations", "Create a conversation of OpenAI's API"),
    ("get", "/v1/conversations/{conversation_id}", "A conversation of OpenAI's API"),
    ("post", "/v1/conversations/{conversation_id}", "Replace its metadata"),
    ("delete", "/v1/conversations/{conversation_id}", "Delete it with its items"),
    ("get", "/v1/conversations/{conversation_id}/items", "Its items"),
    ("post", "/v1/conversations/{conversation_id}/items", "Add items to it"),
    ("get", "/v1/conversations/{conversation_id}/items/{item}", "One of its items"),
    ("delete", "/v1/conversations/{conversation_id}/items/{item}", "Delete one of its items"),
    ("post", "/v1/embeddings", "OpenAI's embeddings"),
    ("post", "/v1/messages", "Anthropic's messages"),
    ("get", "/api/version", "The supported version of Ollama's API"),
    ("post", "/mcp", "The Model Context Protocol: JSON-RPC, answered as JSON or as an event stream"),
    ("get", "/api/tags", "Ollama's list of models"),
    ("get", "/api/ps", "Ollama's list of loaded models"),
    ("post", "/api/show", "Ollama's description of a model"),
    ("post", "/api/chat", "Ollama's chat"),
    ("post", "/api/generate", "Ollama's answer to one prompt"),
    ("post", "/api/pull", "Download a model, as Ollama does"),
    ("delete", "/api/delete", "Remove a model, as Ollama does"),
    ("post", "/api/embed", "Ollama's embeddings"),
    ("post", "/api/embeddings", "Ollama's embedding of one text, for older clients"),
    ("post", "/v1/messages/count_tokens", "Count the tokens of a message's prompt"),
    ("get", "/notifications/{client_id}", "Notifications, unread first"),
    ("post", "/notifications/{client_id}", "Notify all devices"),
    ("get", "/notifications/{client_id}/badge", "The number of unread notifications"),
    ("post", "/notifications/{client_id}/read", "Mark some as read"),
    ("post", "/notifications/{client_id}/read-all", "Mark all as read"),
    ("post", "/notifications/{client_id}/{notification_id}/read", "Mark one as read"),
    ("post", "/notifications/{client_id}/{notification_id}/delivered", "Record that a device has shown it"),
    ("post", "/notifications/{client_id}/{notification_id}/opened", "Record that it was opened"),
    ("get", "/notifications/{client_id}/devices", "Registered devices"),
    ("post", "/notifications/{client_id}/devices", "Register a device"),
    ("delete", "/notifications/{client_id}/devices/{device_id}", "Remove a device"),
    ("get", "/notifications/{client_id}/preferences", "Preferences"),
    ("put", "/notifications/{client_id}/preferences", "Replace the preferences"),
    ("get", "/notifications/{client_id}/history", "Deliveries to each device"),
    ("get", "/notifications/{client_id}/statistics", "Delivery statistics"),
    ("get", "/notifications/{client_id}/dead-letters", "Deliveries that failed for good"),
    ("post", "/notifications/{client_id}/dead-letters/{notification_id}/resend", "Resend one of them"),
    ("get", "/subscriptions/{device_id}", "The events that a device receives"),
    ("put", "/subscriptions/{device_id}", "Change the events that a device receives"),
)
_BODILESS = frozenset({"load", "unload", "cancel", "read-all", "resend", "delivered", "opened"})
"""Last segments of paths that take no body. `read` is one for a single notification, but not for several."""
_QUESTION = [{"role": "user", "content": "What is a hash table?"}]
_SHORT = {"num_predict": 40}
EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/tasks/{client_id}"): {"title": "Paint the door", "priority": "high", "tags": ["house"]},
    ("put", "/tasks/{client_id}/board"): {"limits": {"in_progress": 3}},
    ("post", "/tasks/{client_id}/bulk"): {"items": [{"create": {"title": "Buy paint"}}]},
    ("post", "/ai/process"): {"type": "message", "content": "What is a hash table?", "max_tokens": 40},
    ("post", "/ai/complete"): {"content": "def add(a, b):\n    ", "file_path": "a.py", "max_tokens": 40},
    ("post", "/notifications/{client_id}"): {"template": "message", "fields": {"title": "It is done"}},
    ("put", "/notifications/{client_id}/preferences"): {"min_priority": "low"},
    ("post", "/notifications/{client_id}/read"): {"notification_ids": ["00000000"]},
    ("post", "/notifications/{client_id}/devices"): {
        "device_id": "hook",
        "platform": "webhook",
        "url": "https://example.org/hook",
        "secret": "sixteen characters or more",
    },
    ("put", "/subscriptions/{device_id}"): {"min_priority": "low"},
    ("post", "/v1/chat/completions"): {"model": "embedded", "messages": _QUESTION, "max_tokens": 40},
    ("post", "/v1/completions"): {"model": "embedded", "prompt": "A hash table is", "max_tokens": 40},
    ("post", "/v1/responses"): {"model": "embedded", "input": "What is a hash table?", "max_output_tokens": 40},
    ("post", "/v1/conversations"): {"metadata": {"about": "tables"}},
    ("post", "/v1/messages"): {"model": "embedded", "messages": _QUESTION, "max_tokens": 40},
    ("post", "/v1/messages/count_tokens"): {"model": "embedded", "messages": _QUESTION},
    ("post", "/api/chat"): {"model": "embedded", "messages": _QUESTION, "stream": False, "options": _SHORT},
    ("post", "/api/generate"): {"model": "embedded", "prompt": "A hash table is", "stream": False, "options": _SHORT},
    ("post", "/api/show"): {"model": "embedded"},
}
"""Example bodies by method and path; each works as it stands on a server with the model that it names."""


def other_paths(problem: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Build the path items; ``problem`` refers to the schema of errors."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary in _ROUTES:
        operation: dict[str, Any] = {
            "summary": summary,
            "responses": {
                "2XX": {"description": "The request succeeded."},
                "default": {
                    "description": "The request failed.",
                    "content": {"application/problem+json": {"schema": problem}},
                },
            },
        }
        if (method in ("post", "put") and not _is_bodiless(path)) or path == "/api/delete":
            operation["requestBody"] = {"content": {"application/json": {"schema": _ANY}}}
        if names := re.findall(r"\{(\w+)\}", path):
            operation["parameters"] = [
                {"name": one, "in": "path", "required": True, "example": _NAMES[one], "schema": {"type": "string"}}
                for one in names
            ]
        paths.setdefault(path, {})[method] = operation
    return paths


def _is_bodiless(path: str) -> bool:
    return path.rpartition("/")[2] in _BODILESS or path.endswith("{notification_id}/read")
