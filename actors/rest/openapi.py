"""The OpenAPI 3.1 document. Its part about tasks is generated from the classes that validate their requests.

quart-schema would describe bodies by msgspec or pydantic models, which know nothing of the bounds in the protocol's
validators. So the document is made from `protocol.schema`, like the AsyncAPI file, and states what is enforced.
"""

from __future__ import annotations

import json
from typing import Any

from actors.rest.openapi_services import EXAMPLES, other_paths
from protocol.program_setup import ProgramList, ProgramSetups
from protocol.schema import class_schemas, reachable
from protocol.task_answers import (
    Board,
    BulkResult,
    CleanedTasks,
    DeletedTask,
    HistoryPage,
    ImportedTasks,
    TaskPage,
    TaskStatistics,
)
from protocol.task_model import UUID_PATTERN, Task
from protocol.tasks import (
    CLEARABLE,
    ColumnLimits,
    TaskBoard,
    TaskBulk,
    TaskCleanup,
    TaskCreate,
    TaskDecide,
    TaskDelete,
    TaskExport,
    TaskHistory,
    TaskImport,
    TaskLimits,
    TaskList,
    TaskMove,
    TaskStats,
    TaskUpdate,
)
from protocol.validation import CLIENT_NAME

__all__ = ["openapi"]

BODIES = (TaskCreate, TaskUpdate, TaskMove, TaskDecide, TaskBulk, TaskLimits, TaskImport, TaskCleanup)
QUERIES = (TaskList, TaskBoard, TaskStats, TaskExport, TaskHistory, TaskDelete, ProgramList)
ANSWERS = (
    Task, TaskPage, Board, ColumnLimits, TaskStatistics, BulkResult, ImportedTasks, CleanedTasks, DeletedTask, HistoryPage,
    ProgramSetups,
)  # fmt: skip
HERE = "Here"
"""Suffix of bodies whose id and version come from path and header."""
ANSWER = "Answer"
"""Prefix of schemas of answers, because requests are validated more strictly."""

PARAMETERS: dict[str, Any] = {
    "client_id": {
        "name": "client_id",
        "in": "path",
        "required": True,
        "example": "me",
        "schema": {"type": "string", "pattern": f"^{CLIENT_NAME.pattern}$"},
    },
    "task_id": {
        "name": "task_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid", "pattern": UUID_PATTERN.replace("a-f", "a-fA-F")},
    },
    "key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A request repeated with the same key within ten minutes is carried out once and gets the same answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    },
    "version": {
        "name": "If-Match",
        "in": "header",
        "required": True,
        "description": 'The version to change, as `"3"`, several, or `*` for any. Not required if the body has the field '
        "`version`.",
        "schema": {"type": "string", "pattern": r'^(W/)?"[!#-~]*"( ?, ?(W/)?"[!#-~]*"){0,8}$'},
    },
}
PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "temporary": {"type": "boolean"},
        "field": {"type": "string"},
        "current": {"type": "object"},
    },
    "required": ["title", "status", "detail", "code", "temporary"],
}


def openapi(version: str) -> dict[str, Any]:
    """Build the document as plain JSON values."""
    schemas = _schemas()
    one = "/tasks/{client_id}/{task_id}"
    every = "/tasks/{client_id}"
    paths: dict[str, dict[str, Any]] = {
        every: {
            "post": _operation("Create a task", TaskCreate, Task, status="201", writes=True),
            "get": _operation("A page of tasks", None, TaskPage, query=_query(schemas, "TaskList")),
        },
        f"{every}/board": {
            "get": _operation("A board with its columns", None, Board, query=_query(schemas, "TaskBoard")),
            "put": _operation("Set the limits of a board's columns", TaskLimits, ColumnLimits, writes=True),
        },
        f"{every}/stats": {
            "get": _operation("Statistics from the history", None, TaskStatistics, query=_query(schemas, "TaskStats")),
        },
        f"{every}/bulk": {"post": _operation("Several changes at once", TaskBulk, BulkResult, writes=True)},
        f"{every}/export": {"get": _export(_query(schemas, "TaskExport"))},
        f"{every}/import": {"post": _operation("Import tasks", TaskImport, ImportedTasks, writes=True)},
        f"{every}/cleanup": {
            "post": _operation("Delete tasks finished long ago", TaskCleanup, CleanedTasks, writes=True)
        },
        one: {
            "get": _operation("One task", None, Task),
            "patch": _operation(
                "Change fields; null clears one (RFC 7396)", TaskUpdate, Task, writes=True, changes=True
            ),
            "delete": _operation(
                "Delete a task",
                None,
                DeletedTask,
                writes=True,
                changes=True,
                query=_query(schemas, "TaskDelete" + HERE),
            ),
        },
        f"{one}/move": {"post": _operation("Move a task", TaskMove, Task, writes=True, changes=True)},
        f"{one}/decision": {"post": _operation("Decide about a proposal", TaskDecide, Task, writes=True, changes=True)},
        f"{one}/history": {
            "get": _operation("What happened to a task", None, HistoryPage, query=_query(schemas, "TaskHistory" + HERE))
        },
    }
    for path, operations in paths.items():
        names = [name for name in ("client_id", "task_id") if f"{{{name}}}" in path]
        operations["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    paths["/programs"] = {
        "get": _operation(
            "Configuration of other programs for this server", None, ProgramSetups, query=_query(schemas, "ProgramList")
        )
    }
    paths |= other_paths(_reference("Problem"))
    for (method, path), example in EXAMPLES.items():
        paths[path][method]["requestBody"]["content"]["application/json"]["example"] = example
    return {
        "openapi": "3.1.0",
        "info": {"title": "LeanVibe", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": PARAMETERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(
    summary: str,
    body: type | None,
    answer: type,
    *,
    status: str = "200",
    writes: bool = False,
    changes: bool = False,
    query: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    names = (["key"] if writes else []) + (["version"] if changes else [])
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": [*({"$ref": f"#/components/parameters/{name}"} for name in names), *query],
        "responses": _responses(status, {"application/json": {"schema": _reference(ANSWER + answer.__name__)}}),
    }
    if answer is Task:
        operation["responses"][status]["headers"] = {"ETag": {"schema": {"type": "string"}}}
    if body is not None:
        schema = _reference(body.__name__ + (HERE if changes else ""))
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _export(query: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    exported = {
        "type": "object",
        "properties": {"tasks": {"type": "array", "items": _reference("ImportedTask")}},
        "required": ["tasks"],
    }
    content = {
        "application/json": {"schema": exported},
        "text/csv": {"schema": {"type": "string"}},
    }
    return {"summary": "All tasks as a file", "parameters": list(query), "responses": _responses("200", content)}


def _responses(status: str, content: dict[str, Any]) -> dict[str, Any]:
    wrong = {
        "description": "The request failed.",
        "content": {"application/problem+json": {"schema": _reference("Problem")}},
    }
    return {status: {"description": "The request succeeded.", "content": content}, "4XX": wrong, "5XX": wrong}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    """Schemas of all requests, and of all answers under their own names."""
    taken = class_schemas(reachable(*BODIES, *QUERIES), set())
    told = class_schemas(set(), reachable(*ANSWERS))
    taken["TaskMove"]["not"] = {
        "properties": {"before": {"type": "string"}, "after": {"type": "string"}},
        "required": ["before", "after"],
    }
    definitions = _referring(taken, "") | {ANSWER + name: one for name, one in _referring(told, ANSWER).items()}
    for name in ("TaskUpdate", "TaskMove", "TaskDecide", "TaskDelete", "TaskHistory"):
        # The path names the task, and `If-Match` the version.
        definitions[name + HERE] = _without(definitions[name], "task_id", "version")
    definitions["TaskUpdate" + HERE] = _merge_patch(definitions["TaskUpdate" + HERE])
    definitions["TaskUpdate"]["not"] = {"anyOf": [_given_and_cleared(name) for name in CLEARABLE]}
    item = definitions["BulkItem"]
    item["properties"] = {name: _not_null(one) for name, one in item["properties"].items()}
    item |= {"minProperties": 1, "maxProperties": 1}
    definitions["Problem"] = PROBLEM
    return definitions


def _referring(schemas: dict[str, Any], prefix: str) -> dict[str, Any]:
    text = json.dumps(schemas).replace('"#/$defs/', f'"#/components/schemas/{prefix}')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    left = {name: one for name, one in schema["properties"].items() if name not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    whole = {**schema, "properties": left}
    whole.pop("required", None)
    return whole | ({"required": required} if required else {})


def _merge_patch(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow null for fields that can be cleared, and only for them."""
    whole = _without(schema, "clear")
    whole["properties"] = {
        name: one if name in CLEARABLE else _not_null(one) for name, one in whole["properties"].items()
    }
    return whole


def _given_and_cleared(name: str) -> dict[str, Any]:
    return {
        "properties": {name: {"not": {"type": "null"}}, "clear": {"contains": {"const": name}}},
        "required": [name, "clear"],
    }


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    plain = dict(schema)
    if isinstance(plain.get("type"), list):
        kinds = [one for one in plain["type"] if one != "null"]
        plain["type"] = kinds[0] if len(kinds) == 1 else kinds
    if "anyOf" in plain:
        parts = [one for one in plain.pop("anyOf") if one != {"type": "null"}]
        plain |= parts[0] if len(parts) == 1 else {"anyOf": parts}
    return plain


def _query(schemas: dict[str, Any], name: str) -> tuple[dict[str, Any], ...]:
    """Turn the fields of a class into query parameters."""
    schema = schemas[name]
    required = schema.get("required", ())
    return tuple(
        {"name": field, "in": "query", "required": field in required, "schema": _not_null(one)}
        for field, one in schema["properties"].items()
    )
