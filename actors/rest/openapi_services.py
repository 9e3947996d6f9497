"""The routes of `/openapi.json` besides those of tasks: what each is for, what it takes, and an example that works."""

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
    ("get", "/health/ready", "200 when it can answer questions, else 503 with reasons"),
    ("get", "/health/mlx", "The engine"),
    ("get", "/metrics", "Figures for Prometheus"),
    ("get", "/openapi.json", "This document"),
    ("get", "/", "The console, a page for people; programs are told where the other pages are"),
    ("get", "/console/version", "Which files the console is made of now"),
    ("post", "/console/enter", "The console shows the code of a link and gets its token, once"),
    ("get", "/docs", "The page to try these routes on"),
    ("get", "/push", "The page where a browser subscribes to notifications"),
    ("get", "/push/key", "The key that a subscription is made with"),
    ("post", "/ai/process", "A message, or an intent on code"),
    ("post", "/ai/complete", "Go on with code"),
    ("get", "/conversations/{client_id}", "The client's conversations"),
    ("get", "/conversations/{client_id}/{name}", "A conversation with its turns"),
    ("delete", "/conversations/{client_id}/{name}", "Forget a conversation"),
    ("get", "/conversations/{client_id}/{name}/export", "A conversation as JSON or Markdown (`format`)"),
    ("get", "/models", "Which models there are"),
    ("post", "/models/{name}/load", "Change the model in use"),
    ("post", "/models/{name}/unload", "Unload the model"),
    ("get", "/v1/models", "OpenAI's list of models"),
    ("get", "/v1/models/{name}", "OpenAI's description of a model"),
    ("post", "/v1/chat/completions", "OpenAI's chat completions"),
    ("post", "/v1/completions", "OpenAI's completions"),
    ("post", "/v1/responses", "OpenAI's responses"),
    ("get", "/v1/responses/{response_id}", "A stored response, or its events from any place"),
    ("delete", "/v1/responses/{response_id}", "Forget a stored response"),
    ("post", "/v1/responses/{response_id}/cancel", "End a response"),
    ("get", "/v1/responses/{response_id}/input_items", "What a response was asked"),
    ("post", "/v1/conversations", "Begin a conversation of OpenAI's API"),
    ("get", "/v1/conversations/{conversation_id}", "A conversation of OpenAI's API"),
    ("post", "/v1/conversations/{conversation_id}", "Replace its metadata"),
    ("delete", "/v1/conversations/{conversation_id}", "Forget it with its items"),
    ("get", "/v1/conversations/{conversation_id}/items", "Its items"),
    ("post", "/v1/conversations/{conversation_id}/items", "Add items to it"),
    ("get", "/v1/conversations/{conversation_id}/items/{item}", "One of its items"),
    ("delete", "/v1/conversations/{conversation_id}/items/{item}", "Forget one of its items"),
    ("post", "/v1/embeddings", "OpenAI's embeddings"),
    ("post", "/v1/messages", "Anthropic's messages"),
    ("get", "/api/version", "The version of Ollama's API that is spoken here"),
    ("post", "/mcp", "The Model Context Protocol: JSON-RPC, answered as JSON or as an event stream"),
    ("get", "/api/tags", "Ollama's list of models"),
    ("get", "/api/ps", "Ollama's list of loaded models"),
    ("post", "/api/show", "Ollama's description of a model"),
    ("post", "/api/chat", "Ollama's chat"),
    ("post", "/api/generate", "Ollama's answer to one prompt"),
    ("post", "/api/pull", "Fetch a model, as Ollama does"),
    ("delete", "/api/delete", "Remove a model, as Ollama does"),
    ("post", "/api/embed", "Ollama's embeddings"),
    ("post", "/api/embeddings", "Ollama's embedding of one text, as older clients ask"),
    ("post", "/v1/messages/count_tokens", "How many tokens a message's prompt has"),
    ("get", "/notifications/{client_id}", "Notifications, unread first"),
    ("post", "/notifications/{client_id}", "Tell all devices of an event"),
    ("get", "/notifications/{client_id}/badge", "How many are unread"),
    ("post", "/notifications/{client_id}/read", "Mark some as read"),
    ("post", "/notifications/{client_id}/read-all", "Mark all as read"),
    ("post", "/notifications/{client_id}/{notification_id}/read", "Mark one as read"),
    ("post", "/notifications/{client_id}/{notification_id}/delivered", "A device has shown it"),
    ("post", "/notifications/{client_id}/{notification_id}/opened", "A person has opened it"),
    ("get", "/notifications/{client_id}/devices", "Devices that pushes go to"),
    ("post", "/notifications/{client_id}/devices", "Register a device"),
    ("delete", "/notifications/{client_id}/devices/{device_id}", "Forget a device"),
    ("get", "/notifications/{client_id}/preferences", "Preferences"),
    ("put", "/notifications/{client_id}/preferences", "Replace the preferences"),
    ("get", "/notifications/{client_id}/history", "What was delivered where"),
    ("get", "/notifications/{client_id}/statistics", "Times of delivery"),
    ("get", "/notifications/{client_id}/dead-letters", "Deliveries that were given up"),
    ("post", "/notifications/{client_id}/dead-letters/{notification_id}/resend", "Try one of them again"),
    ("get", "/subscriptions/{device_id}", "Which events a device wants"),
    ("put", "/subscriptions/{device_id}", "Say which events a device wants"),
)
_BODILESS = frozenset({"load", "unload", "cancel", "read-all", "resend", "delivered", "opened"})
"""Last words of paths that take no body. `read` of one notification is among them, and `read` of several is not."""
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
"""Bodies by method and path; each is carried out as it stands, by a server of the model that it names."""


def other_paths(problem: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The paths; ``problem`` refers to the schema of what went wrong."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary in _ROUTES:
        operation: dict[str, Any] = {
            "summary": summary,
            "responses": {
                "2XX": {"description": "It was carried out."},
                "default": {
                    "description": "It was not carried out.",
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
