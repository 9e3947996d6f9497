"""Requests for the REST door: structured ones of its own routes, and heads and bodies that are hardly HTTP."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

from tests.fuzzing.definitions import published_definitions
from tests.fuzzing.inputs import CUT, END, Input, Step, cut_in_pieces, draw_for
from tests.fuzzing.values import RAW, HostileValues

__all__ = ["RestInputs"]

CLIENTS = ("me", "other", "nobody-yet", "a" * 64, "a" * 65, "-", "é", "..", "a b", "")
OPENAI_MESSAGES: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function", "nobody"]},
            "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {
                "type": "object",
                "properties": {"type": {"enum": ["text", "image_url", "refusal"]}, "text": {"type": "string"}, "image_url": {}},
                "required": ["type", "text"],
            }}]},
            "tool_call_id": {"type": "string"},
            "tool_calls": {"type": "array", "items": {"type": "object", "properties": {
                "id": {"type": "string"}, "type": {"const": "function"},
                "function": {"type": "object", "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}}},
            }}},
            "name": {"type": "string"},
        },
        "required": ["role", "content"],
    },
}  # fmt: skip
SAMPLING: dict[str, Any] = {
    "model": {"enum": ["mock", "none", "a/b"]},
    "max_tokens": {"type": "integer", "minimum": 1, "maximum": 6},
    "max_completion_tokens": {"type": "integer", "minimum": 1, "maximum": 6},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "n": {"type": "integer", "minimum": 1, "maximum": 8},
    "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "stream": {"type": "boolean"},
    "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
    "logprobs": {},
    "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
    "logit_bias": {"type": "object", "additionalProperties": {"type": "number"}},
    "seed": {"type": "integer"},
    "user": {"type": "string"},
    "echo": {"type": "boolean"},
    "suffix": {"type": "string"},
    "response_format": {"type": "object", "properties": {
        "type": {"enum": ["text", "json_object", "json_schema", "x"]},
        "json_schema": {"type": "object", "properties": {"name": {"type": "string"}, "schema": {}}},
    }},
    "tools": {"type": "array", "items": {"type": "object", "properties": {
        "type": {"const": "function"},
        "function": {"type": "object", "properties": {"name": {"type": "string"}, "parameters": {}}},
    }, "required": ["type", "function"]}},
    "tool_choice": {"anyOf": [{"enum": ["auto", "none", "required"]}, {}]},
    "parallel_tool_calls": {"type": "boolean"},
}  # fmt: skip
CHAT: dict[str, Any] = {
    "type": "object",
    "properties": {"messages": OPENAI_MESSAGES, **SAMPLING},
    "required": ["messages", "max_tokens"],
}
COMPLETION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        **SAMPLING,
    },
    "required": ["prompt", "max_tokens"],
}
BLOCKS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {
    "type": "object",
    "properties": {
        "type": {"enum": ["text", "image", "document", "tool_use", "tool_result", "thinking"]}, "text": {"type": "string"}, "id": {"type": "string"},
        "name": {"type": "string"}, "input": {"type": "object"}, "tool_use_id": {"type": "string"}, "content": {}, "is_error": {"type": "boolean"},
        "cache_control": {"type": "object"}, "source": {},
    },
    "required": ["type"],
}}]}  # fmt: skip
ANTHROPIC: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: SAMPLING[name] for name in ("model", "max_tokens", "temperature", "top_p", "stream")},
        "messages": {"type": "array", "items": {
            "type": "object",
            "properties": {"role": {"enum": ["user", "assistant", "system"]}, "content": BLOCKS},
            "required": ["role", "content"],
        }},
        "system": BLOCKS,
        "stop_sequences": {"type": "array", "items": {"type": "string"}},
        "top_k": {"type": "integer"},
        "metadata": {"type": "object"},
        "thinking": {"type": "object", "properties": {"type": {"enum": ["enabled", "disabled"]}, "budget_tokens": {"type": "integer"}}},
        "tools": {"type": "array", "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "description": {"type": "string"}, "input_schema": {}, "type": {"type": "string"}},
            "required": ["name", "input_schema"],
        }},
        "tool_choice": {"type": "object", "properties": {"type": {"enum": ["auto", "any", "tool", "none"]}, "name": {"type": "string"}}},
    },
    "required": ["messages", "max_tokens"],
}  # fmt: skip
RESPONSES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": SAMPLING["model"],
        "max_output_tokens": SAMPLING["max_tokens"],
        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {
            "type": "object",
            "properties": {
                "type": {"enum": ["message", "function_call", "function_call_output", "item_reference", "reasoning", "input_image"]},
                "role": {"enum": ["user", "assistant", "developer", "nobody"]}, "content": OPENAI_MESSAGES["items"]["properties"]["content"],
                "id": {"type": "string"}, "call_id": {"type": "string"}, "name": {"type": "string"}, "arguments": {"type": "string"},
                "output": {"type": "string"},
            },
        }}]},
        "instructions": {"type": "string"}, "previous_response_id": {"type": "string"}, "conversation": {}, "store": {"type": "boolean"},
        "background": {"type": "boolean"}, "stream": {"type": "boolean"}, "truncation": {"enum": ["auto", "disabled", "x"]},
        "include": {"type": "array", "items": {"enum": ["message.output_text.logprobs", "x"]}}, "top_logprobs": {"type": "integer"},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}}, "reasoning": {}, "text": {}, "tool_choice": {},
        "tools": {"type": "array", "items": {"type": "object", "properties": {
            "type": {"enum": ["function", "web_search"]}, "name": {"type": "string"}, "parameters": {},
        }, "required": ["type", "name", "parameters"]}},
    },
    "required": ["model", "input", "max_output_tokens"],
}  # fmt: skip
CONVERSATION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": RESPONSES["properties"]["input"]["anyOf"][1],
        "metadata": RESPONSES["properties"]["metadata"],
    },
}
OLLAMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": SAMPLING["model"],
        "stream": {"type": "boolean"},
        "format": {"anyOf": [{"enum": ["json", "", "xml"]}, {}]},
        "keep_alive": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        "options": {"type": "object", "properties": {
            "num_predict": {"type": "integer", "minimum": 1, "maximum": 6}, "temperature": {"type": "number"}, "top_k": {"type": "integer"},
            "seed": {"type": "integer"}, "stop": {"type": "array", "items": {"type": "string"}}, "num_ctx": {"type": "integer"},
        }, "required": ["num_predict"]},
        "messages": OPENAI_MESSAGES, "prompt": {"type": "string"}, "system": {"type": "string"}, "suffix": {"type": "string"},
        "tools": SAMPLING["tools"], "think": {"type": "boolean"}, "raw": {"type": "boolean"}, "images": {}, "input": {},
    },
    "required": ["model", "options"],
}  # fmt: skip
PROCESS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"enum": ["message", "explain", "ask", "suggest", "x"]}, "content": {"type": "string"},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 6}, "conversation": {"type": "string"}, "client_id": {"type": "string"},
        "stream": {"type": "boolean"}, "language": {"type": "string"}, "file_path": {"type": "string"}, "cursor": {"type": "integer"},
    },
    "required": ["type", "content", "max_tokens"],
}  # fmt: skip
POST: dict[str, Any] = {
    "type": "object",
    "properties": {
        "template": {"enum": ["message", "none"]}, "fields": {"type": "object", "properties": {"title": {"type": "string"}, "body": {"type": "string"}}},
        "priority": {"enum": ["critical", "high", "medium", "low", "debug"]},
    },
    "required": ["template", "fields"],
}  # fmt: skip
ANYTHING: dict[str, Any] = {}
BODIES: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": {"type": "object", "properties": {
        "model": SAMPLING["model"], "input": {"anyOf": [{"type": "string"}, {"type": "array"}]}, "dimensions": {"type": "integer"},
        "encoding_format": {"enum": ["float", "base64", "x"]},
    }, "required": ["model", "input"]},
    "/api/chat": OLLAMA,
    "/api/generate": OLLAMA,
    "/api/embed": OLLAMA,
    "/api/embeddings": OLLAMA,
    "/api/show": OLLAMA,
    "/api/pull": OLLAMA,
    "/v1/responses": RESPONSES,
    "/v1/responses/{name}/cancel": ANYTHING,
    "/v1/conversations": CONVERSATION,
    "/v1/conversations/{name}": CONVERSATION,
    "/v1/conversations/{name}/items": CONVERSATION,
    "/mcp": {"type": "object", "properties": {"jsonrpc": {"const": "2.0"}, "id": {"type": "integer"}, "method": {"enum": ["initialize", "tools/list", "tools/call", "resources/read"]}, "params": {"type": "object"}}},
    "/v1/messages": ANTHROPIC,
    "/v1/messages/count_tokens": ANTHROPIC,
    "/ai/process": PROCESS,
    "/ai/complete": PROCESS,
    "/tasks/{client}": "TaskCreate",
    "/tasks/{client}/bulk": "TaskBulk",
    "/tasks/{client}/import": {"type": "object", "properties": {"tasks": {"type": "array", "items": {"$ref": "#/$defs/TaskCreate"}}}},
    "/tasks/{client}/cleanup": {"type": "object", "properties": {"older_than_days": {"type": "integer"}, "status": {"type": "string"}}},
    "/tasks/{client}/board": "TaskLimits",
    "/tasks/{client}/{task}": "TaskUpdate",
    "/tasks/{client}/{task}/move": "TaskMove",
    "/tasks/{client}/{task}/decision": "TaskDecide",
    "/notifications/{client}": POST,
    "/notifications/{client}/read": "NotificationRead",
    "/notifications/{client}/{name}/read": ANYTHING,
    "/notifications/{client}/{name}/delivered": {"type": "object", "properties": {"device_id": {"type": "string"}}},
    "/notifications/{client}/{name}/opened": {"type": "object", "properties": {"device_id": {"type": "string"}}},
    "/notifications/{client}/read-all": ANYTHING,
    "/notifications/{client}/devices": "DeviceRegister",
    "/notifications/{client}/preferences": "NotificationPreferences",
    "/notifications/{client}/dead-letters/{name}/resend": ANYTHING,
    "/subscriptions/{name}": "Subscribe",
    "/models/{name}/load": ANYTHING,
    "/models/{name}/unload": ANYTHING,
    "/console/enter": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
}  # fmt: skip
"""What a route reads, by its path; what has no entry reads no body."""
READS = (
    "/", "/programs", "/programs?address=http://localhost:1", "/console/version", "/openapi.json", "/docs", "/docs/{name}", "/push", "/push/key", "/health", "/health/live", "/health/ready", "/health/mlx", "/metrics",
    "/models", "/v1/models", "/v1/models/{name}", "/v1/responses/{name}", "/v1/responses/{name}/input_items", "/v1/conversations/{name}", "/v1/conversations/{name}/items", "/v1/conversations/{name}/items/{name}", "/api/version", "/api/tags", "/api/ps", "/subscriptions/{name}", "/tasks/{client}", "/tasks/{client}/board",
    "/tasks/{client}/stats", "/tasks/{client}/export", "/tasks/{client}/{task}", "/tasks/{client}/{task}/history",
    "/conversations/{client}", "/conversations/{client}/{name}", "/conversations/{client}/{name}/export", "/notifications/{client}",
    "/notifications/{client}/badge", "/notifications/{client}/devices", "/notifications/{client}/preferences",
    "/notifications/{client}/history", "/notifications/{client}/statistics", "/notifications/{client}/dead-letters",
)  # fmt: skip
DELETES = (
    "/api/delete",
    "/v1/responses/{name}",
    "/v1/conversations/{name}",
    "/v1/conversations/{name}/items/{name}",
    "/tasks/{client}/{task}",
    "/conversations/{client}/{name}",
    "/notifications/{client}/devices/{name}",
)
UNLOADS = "/models/{name}/unload"
QUERIES = (
    "limit", "cursor", "offset", "status", "priority", "project", "tag", "q", "search", "sort", "order", "format", "since", "until", "before",
    "after", "unread", "client_id", "device_id", "token", "days", "include_deleted", "fields", "page", "window", "channel", "stream", "starting_after",
)  # fmt: skip
HEADERS: dict[str, tuple[str, ...]] = {
    "If-Match": ('"1"', '"0"', "*", "1", 'W/"1"', '"99999999999999999999"', '"1", "2"', '"', ""),
    "If-None-Match": ('"1"', "*", 'W/"x"', '"' + "a" * 5000 + '"', ","),
    "Idempotency-Key": ("a", "a" * 64, "a" * 65, "\xe9", "", '"a"'),
    "X-Client-Id": ("me", "other", "", "a b", "a" * 200),
    "Authorization": ("Bearer x", "Bearer", "Basic YTpi", "bearer lv_0_0", "Bearer " + "x" * 3000, ""),
    "Origin": ("http://localhost:3000", "null", "https://evil.example", "http://[::1]", "http://localhost:99999", "a" * 3000),
    "Access-Control-Request-Method": ("POST", "", "X" * 300),
    "Access-Control-Request-Headers": ("content-type", ",,,", "a" * 3000),
    "Accept": ("*/*", "text/event-stream", "application/json;q=0", "x", "text/csv", ",;,"),
    "Accept-Encoding": ("gzip", "identity;q=0", "*;q=0"),
    "Content-Encoding": ("gzip", "identity", "br", ""),
    "Content-Type": ("application/json", "text/plain", "application/json; charset=utf-16", "multipart/form-data", "application/merge-patch+json", "x", ""),
    "Range": ("bytes=0-", "bytes=99999999999999999999-", "x=1-2"),
    "Expect": ("100-continue", "200-ok"),
    "Last-Event-ID": ("1", "x", "9" * 500),
    "X-Forwarded-For": ("1.2.3.4",),
    "Cookie": ("a=b", "a" * 5000),
    "Upgrade": ("websocket", "h2c"),
    "Prefer": ("return=minimal",),
}  # fmt: skip


class RestInputs:
    """`make(number)` is the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._definitions = published_definitions()

    def make(self, number: int) -> Input:
        """The input of this number."""
        draw = draw_for(self.seed, number)
        values = HostileValues(draw, self._definitions)
        if draw.random() < 0.7:
            return self._structured(number, draw, values)
        return self._mutated(number, draw, values)

    def _structured(self, number: int, draw: random.Random, values: HostileValues) -> Input:
        method, path, target, lines, body = self._request(draw, values)
        head = self._head(method, target, lines)
        steps = cut_in_pieces(draw, head + body)
        # An event stream goes on as long as its answer, which these keep short.
        return Input(number, f"rest {method} {path}", steps, must_answer=True)

    def _request(
        self, draw: random.Random, values: HostileValues
    ) -> tuple[str, str, str, list[tuple[str, str]], bytes]:
        """Method, route, target, header lines and body of a request that is sound as a message."""
        wrong = draw.choice((0.0, 0.02, 0.1, 0.3))
        body: bytes | None = None
        kind = draw.random()
        if kind < 0.55:
            # Unloading the model is what it says; it would take it from everybody.
            path = draw.choice([one for one in BODIES if one != UNLOADS])
            method = {"/tasks/{client}/board": "PUT", "/tasks/{client}/{task}": "PATCH"}.get(path, "POST")
            if path.endswith("/preferences") or path.startswith("/subscriptions"):
                method = "PUT"
            schema = BODIES[path]
            schema = {"$ref": f"#/$defs/{schema}"} if isinstance(schema, str) else schema
            body = values.raw(values.of(schema, wrong=wrong))
        elif kind < 0.9:
            method, path = draw.choice(("GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "BREW")), draw.choice(READS)
            if draw.random() < 0.1:
                body = draw.choice(RAW)
        else:
            method, path = "DELETE", draw.choice(DELETES)
        target = path.replace("{client}", draw.choice(("me", "me", self._quoted(draw, draw.choice(CLIENTS)))))
        target = target.replace(
            "{task}",
            draw.choice(
                ("0b0f1c8e-6f0c-4c7e-9d6b-0c6f3f1f2a11", "{TASK}", "x", self._quoted(draw, values.text()[:900]))
            ),
        )
        target = target.replace("{name}", draw.choice(("x", "mock", "a/b", self._quoted(draw, values.text()[:900]))))
        if draw.random() < 0.4:
            target += "?" + "&".join(
                f"{draw.choice(QUERIES)}={self._quoted(draw, draw.choice((values.text()[:300], str(values.number())[:200], '3', 'true')))}"
                for _ in range(draw.choice((1, 1, 2, 5)))
            )
        lines = [("Host", "localhost"), ("Connection", "close")]
        for _ in range(draw.choice((0, 0, 1, 2, 4))):
            name = draw.choice(list(HEADERS))
            if name not in ("Upgrade", "Expect"):
                lines.append((name, draw.choice(HEADERS[name])))
        if body is not None:
            if draw.random() < 0.8:
                lines.append(("Content-Type", "application/json"))
            if draw.random() < 0.85:
                lines.append(("Content-Length", str(len(body))))
            else:
                lines.append(("Transfer-Encoding", "chunked"))
                body = self._chunked(draw, body)
        return method, path, target, lines, body or b""

    def _mutated(self, number: int, draw: random.Random, values: HostileValues) -> Input:
        method, path, target, lines, body = self._request(draw, values)
        kind = draw.randrange(10)
        if kind == 0:
            # What two readers could read differently.
            lines += draw.choice(([("Content-Length", "0")], [("Content-Length", "+3")], [("Content-Length", "9" * 30)], [("Content-Length", "1, 1")],
                                  [("Transfer-Encoding", "chunked, identity")], [("Transfer-Encoding", "\x0bchunked")], [("Host", "evil")],
                                  [("Transfer-Encoding", "chunked"), ("Content-Length", "4")]))  # fmt: skip
        elif kind == 1:
            lines = [(draw.choice(("a b", "a:", "", "\x00", "\xff", "a" * 9000, name)), value) for name, value in lines]
        elif kind == 2:
            lines += [(f"X-{number}", "a" * draw.choice((10, 1000))) for number in range(draw.choice((50, 200, 1000)))]
        elif kind == 3:
            target = draw.choice(("*", "http://localhost/health", "http://[::1", "//", "/%", "/%zz", "/\xff", "?" + "a" * 9000, "a", "/#", "/health/../health",
                                  "https://%41/", "/" + "a/" * 3000, "/health;x", "http://a@b:c/"))  # fmt: skip
        elif kind == 4:
            method = draw.choice(("", "get", "GET\x00", "A" * 3000, "CONNECT", "PRI", "TRACE", "G(T"))
        head = self._head(
            method,
            target,
            lines,
            draw.choice(("HTTP/1.1",) * 4 + ("HTTP/1.0", "HTTP/2.0", "HTTP/1.9", "HTTP/", "x", "")),
        )
        data = head + body
        if kind == 5:
            data = data.replace(
                b"\r\n", draw.choice((b"\n", b"\r", b"\r\n ", b"\r\n\r\n", b"\x85")), draw.choice((1, 3, -1))
            )
        elif kind == 6:
            at = draw.randrange(len(data))
            data = (
                data[:at]
                + bytes(draw.randrange(256) for _ in range(draw.choice((1, 3, 30))))
                + data[at + draw.choice((0, 3)) :]
            )
        elif kind == 7:
            data = data[: draw.randrange(1, len(data) + 1)]
        elif kind == 8:
            data = data.replace(b"Connection: close\r\n", b"") * draw.choice((2, 5, 20))
        elif kind == 9:
            data = draw.choice((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(60), b"\r\n" * 500,
                                b"\0" * 1000, bytes(draw.randrange(256) for _ in range(500)), b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n " * 5000,
                                self._upgrade(draw)))  # fmt: skip
        steps: list[Step] = list(cut_in_pieces(draw, data))
        steps += draw.choice(([], [], [END], [CUT], [0.05, END]))
        return Input(number, f"rest-raw {kind} {method[:20]!r} {path}", tuple(steps))

    def _upgrade(self, draw: random.Random) -> bytes:
        words = draw.choice(("websocket", "h2c", "x, websocket"))
        lines = [
            ("Host", "localhost"),
            ("Connection", "Upgrade"),
            ("Upgrade", words),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ]
        return self._head("GET", draw.choice(("/", "/ws", "/health")), lines) + bytes(draw.choice((0, 50)))

    @staticmethod
    def _head(method: str, target: str, lines: list[tuple[str, str]], version: str = "HTTP/1.1") -> bytes:
        text = f"{method} {target} {version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
        return text.encode("latin-1", "replace")

    @staticmethod
    def _chunked(draw: random.Random, body: bytes) -> bytes:
        size = max(1, len(body) // draw.choice((1, 2, 10)))
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        return b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in chunks) + b"0\r\n\r\n"

    @staticmethod
    def _quoted(draw: random.Random, text: str) -> str:
        return quote(text.encode("utf-8", "surrogatepass"), safe=draw.choice(("", "/:@")))
