"""Routes of tasks. Each makes one message of a request and one response of its answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from quart import Response, jsonify, request
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.refusals import CommandRefused
from actors.rest.problems import problem
from actors.rest.query import query_as
from actors.rest.rooms import REST_DEVICE, Rooms, body_as, idempotency_key, identity
from actors.rest.task_export import export_response
from actors.tasks.messages import (
    ChangeInBulk,
    CleanUpTasks,
    CreateTask,
    DecideTask,
    DeleteTask,
    GetTask,
    ImportTasks,
    ListTasks,
    MoveTask,
    ReadBoard,
    ReadHistory,
    ReadStatistics,
    SetLimits,
    TaskRequest,
    UpdateTask,
)
from protocol.codec import structure, unstructure
from protocol.errors import InvalidField
from protocol.json_text import parse_object
from protocol.task_model import Task
from protocol.tasks import (
    CLEARABLE,
    TaskBoard,
    TaskBulk,
    TaskCleanup,
    TaskCreate,
    TaskDecide,
    TaskDelete,
    TaskExport,
    TaskGet,
    TaskHistory,
    TaskImport,
    TaskLimits,
    TaskList,
    TaskMove,
    TaskStats,
    TaskUpdate,
)
from protocol.validation import CLIENT_NAME

__all__ = ["StaleVersion", "register_tasks"]

Reply = TypeVar("Reply")

ASK_SECONDS = 10.0
MANY_SECONDS = 35.0
_ENTITY_TAG = re.compile(r'"([1-9][0-9]{0,15})"')


class StaleVersion(CommandRefused):
    """`If-Match` names another version than the task has: 412 (RFC 9110, 13.1.1)."""


def register_tasks(app: QuartTrio, rooms: Rooms) -> None:
    """Register the routes."""
    _register_single(app, rooms)
    _register_many(app, rooms)

    @app.errorhandler(StaleVersion)
    async def stale(error: StaleVersion) -> Response:
        return problem(error.code, error.message, field=error.field, current=error.current, status=412)


def _register_many(app: QuartTrio, rooms: Rooms) -> None:
    """Routes of a client's tasks together."""

    @app.get("/tasks/<client_id>")
    async def list_tasks(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        return _json(await _ask(rooms, ListTasks(**_read(who), data=query_as(TaskList)), "query"))

    @app.get("/tasks/<client_id>/board")
    async def read_board(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        return _json(await _ask(rooms, ReadBoard(**_read(who), data=query_as(TaskBoard)), "query"))

    @app.put("/tasks/<client_id>/board")
    async def set_limits(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        message = SetLimits(**await _write(who), data=await body_as(TaskLimits))
        return _json(await _ask(rooms, message, "body"))

    @app.get("/tasks/<client_id>/stats")
    async def read_statistics(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        return _json(await _ask(rooms, ReadStatistics(**_read(who), data=query_as(TaskStats)), "query"))

    @app.post("/tasks/<client_id>/bulk")
    async def change_in_bulk(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        message = ChangeInBulk(**await _write(who), data=await body_as(TaskBulk))
        return _json(await _ask(rooms, message, "body", timeout=MANY_SECONDS))

    @app.get("/tasks/<client_id>/export")
    async def export_tasks(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        wanted: TaskExport = query_as(TaskExport)

        async def page(data: TaskList) -> Any:
            return await _ask(rooms, ListTasks(**_read(who), data=data), "query")

        return await export_response(wanted, page)

    @app.post("/tasks/<client_id>/import")
    async def import_tasks(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        message = ImportTasks(**await _write(who), data=await body_as(TaskImport))
        return _json(await _ask(rooms, message, "body", timeout=MANY_SECONDS))

    @app.post("/tasks/<client_id>/cleanup")
    async def clean_up(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        message = CleanUpTasks(**await _write(who), data=await body_as(TaskCleanup))
        return _json(await _ask(rooms, message, "body", timeout=MANY_SECONDS))


def _register_single(app: QuartTrio, rooms: Rooms) -> None:
    """Routes of one task."""

    @app.post("/tasks/<client_id>")
    async def create_task(client_id: str) -> Any:
        who = await _owner(rooms, client_id)
        data: TaskCreate = await body_as(TaskCreate)
        seconds = ASK_SECONDS + (data.ai_timeout_seconds if data.analyze_with_ai else 0)
        message = CreateTask(**await _write(who), data=data)
        task = await _ask(rooms, message, "body", timeout=seconds)
        response = _task(task, status=201)
        response.headers["Location"] = f"/tasks/{client_id}/{task.id}"
        return response

    @app.get("/tasks/<client_id>/<uuid:task_id>")
    async def get_task(client_id: str, task_id: UUID) -> Any:
        who = await _owner(rooms, client_id)
        return _task(await _ask(rooms, GetTask(**_read(who), data=TaskGet(task_id=str(task_id))), "path"))

    @app.patch("/tasks/<client_id>/<uuid:task_id>")
    async def update_task(client_id: str, task_id: UUID) -> Any:
        return await _change(rooms, client_id, task_id, UpdateTask, TaskUpdate, read_body=_as_update)

    @app.delete("/tasks/<client_id>/<uuid:task_id>")
    async def delete_task(client_id: str, task_id: UUID) -> Any:
        who = await _owner(rooms, client_id)
        data = query_as(TaskDelete, **_with_version({}, task_id))
        return _json(await _ask(rooms, DeleteTask(**await _write(who), data=data), "query"))

    @app.post("/tasks/<client_id>/<uuid:task_id>/move")
    async def move_task(client_id: str, task_id: UUID) -> Any:
        return await _change(rooms, client_id, task_id, MoveTask, TaskMove)

    @app.post("/tasks/<client_id>/<uuid:task_id>/decision")
    async def decide_task(client_id: str, task_id: UUID) -> Any:
        return await _change(rooms, client_id, task_id, DecideTask, TaskDecide)

    @app.get("/tasks/<client_id>/<uuid:task_id>/history")
    async def read_history(client_id: str, task_id: UUID) -> Any:
        who = await _owner(rooms, client_id)
        data = query_as(TaskHistory, task_id=str(task_id))
        return _json(await _ask(rooms, ReadHistory(**_read(who), data=data), "query"))


async def _change(
    rooms: Rooms,
    client_id: str,
    task_id: UUID,
    message: type[TaskRequest[Task]],
    wanted: type,
    *,
    read_body: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body,
) -> Response:
    """Carry out the change of a task that the body describes; path and header say of which task and version."""
    who = await _owner(rooms, client_id)
    body = read_body(parse_object(await request.get_data(), prefix="body"))
    data = structure(_with_version(body, task_id), wanted, prefix="body")
    return _task(await _ask(rooms, message(**await _write(who), data=data), "body"))


async def _owner(rooms: Rooms, client_id: str) -> Identity:
    """Who asks about these tasks. Raises `CommandRefused`."""
    if not CLIENT_NAME.fullmatch(client_id):
        raise InvalidField(f"client_id must match {CLIENT_NAME.pattern}", field="client_id")
    return await identity(rooms, client_id)


def _read(who: Identity) -> dict[str, Any]:
    return {"client_id": who.client_id, "device_id": REST_DEVICE}


async def _write(who: Identity) -> dict[str, Any]:
    return {**_read(who), "key": await idempotency_key(who, "tasks")}


async def _ask(rooms: Rooms, message: TaskRequest[Reply], part: str, *, timeout: float = ASK_SECONDS) -> Reply:  # noqa: ASYNC109
    """Ask the room; a refusal names the part of the request that it is about."""
    try:
        return await rooms.tasks.ask(message, timeout=timeout)
    except CommandRefused as refusal:
        kind = CommandRefused
        field = refusal.field
        if field == "data.version" and "If-Match" in request.headers:
            kind, field = StaleVersion, "If-Match"
        elif field in ("data.task_id", "id"):
            field = {"data.task_id": "task_id", "id": "Idempotency-Key"}[field]
        elif field is not None and field.startswith("data"):
            field = part + field.removeprefix("data")
        message_text = refusal.message.replace("data.", f"{part}.", 1) if refusal.field else refusal.message
        raise kind(
            refusal.code, message_text, field=field, retry_after_ms=refusal.retry_after_ms, current=refusal.current
        ) from None


def _with_version(body: dict[str, Any], task_id: UUID) -> dict[str, Any]:
    """The body with the id of the path, and with the version of `If-Match` where the request has that."""
    if "task_id" in body:
        raise InvalidField("body.task_id is not a field of this request; the path names the task", field="body.task_id")
    header = request.headers.get("If-Match")
    if header is None:
        if "version" not in body:
            raise InvalidField('If-Match must name the version that the change is made to, as "3"', field="If-Match")
        return {**body, "task_id": str(task_id)}
    tag = _ENTITY_TAG.fullmatch(header.strip())
    if tag is None:
        raise InvalidField('If-Match must be one entity tag, as "3"', field="If-Match")
    version = int(tag[1])
    if body.get("version", version) != version:
        raise InvalidField("body.version must be the one of If-Match", field="body.version")
    return {**body, "task_id": str(task_id), "version": version}


def _as_update(body: dict[str, Any]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7396): what is null shall be empty."""
    empty = [name for name, value in body.items() if value is None]
    for name in empty:
        if name not in CLEARABLE:
            raise InvalidField(f"body.{name[:64]} cannot be null", field=f"body.{name[:64]}")
    given = {name: value for name, value in body.items() if value is not None}
    if empty and isinstance(given.setdefault("clear", []), list):
        given["clear"] = [*given["clear"], *empty]
    return given


def _json(value: Any, *, status: int = 200) -> Response:
    response: Response = jsonify(unstructure(value))
    response.status_code = status
    return response


def _task(task: Task, *, status: int = 200) -> Response:
    """A task with its version as entity tag."""
    response = _json(task, status=status)
    response.headers["ETag"] = f'"{task.version}"'
    return response
