"""Routes of tasks. Each turns a request into one message and its reply into a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from quart import Response, jsonify, request
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.errors import CommandError
from actors.rest.conditional import ConditionalWrites, conditions, judges_conditions, set_tag, tag_of
from actors.rest.preconditions import version_of
from actors.rest.problems import problem
from actors.rest.services import REST_DEVICE, Services, body_as, idempotency_key, identity, json_body, query_as
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
from protocol.errors import ErrorCode, InvalidField
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
ANY_VERSION_TRIES = 5
"""Attempts at a change to any version (`*`) while others change the task."""


class StaleVersion(CommandError):
    """The task's version does not match `If-Match`, or matches `If-None-Match`: 412 (RFC 9110, 13.1)."""


def register_tasks(app: QuartTrio, services: Services) -> None:
    """Register the routes."""
    _register_single(app, services)
    _register_many(app, services)

    @app.errorhandler(StaleVersion)
    async def stale(error: StaleVersion) -> Response:
        return problem(error.code, error.message, field=error.field, current=error.current, status=412)


def _register_many(app: QuartTrio, services: Services) -> None:
    """Register routes for all of a client's tasks."""
    boards = ConditionalWrites()

    async def board(who: Identity, data: TaskBoard) -> Response:
        return _json(await _ask(services, ReadBoard(**_read(who), data=data), "query"))

    @app.get("/tasks/<client_id>")
    async def list_tasks(client_id: str) -> Any:
        who = await _owner(services, client_id)
        return _json(await _ask(services, ListTasks(**_read(who), data=query_as(TaskList)), "query"))

    @app.get("/tasks/<client_id>/board")
    async def read_board(client_id: str) -> Any:
        return await board(await _owner(services, client_id), query_as(TaskBoard))

    @app.put("/tasks/<client_id>/board")
    @judges_conditions
    async def set_limits(client_id: str) -> Any:
        who = await _owner(services, client_id)
        data: TaskLimits = await body_as(TaskLimits)
        message = SetLimits(**await _write(who), data=data)

        async def current() -> str:
            return tag_of(await board(who, TaskBoard(project=data.project)))

        async with boards.writing((who.client_id, data.project), current):
            return _json(await _ask(services, message, "body"))

    @app.get("/tasks/<client_id>/stats")
    async def read_statistics(client_id: str) -> Any:
        who = await _owner(services, client_id)
        return _json(await _ask(services, ReadStatistics(**_read(who), data=query_as(TaskStats)), "query"))

    @app.post("/tasks/<client_id>/bulk")
    async def change_in_bulk(client_id: str) -> Any:
        who = await _owner(services, client_id)
        message = ChangeInBulk(**await _write(who), data=await body_as(TaskBulk))
        return _json(await _ask(services, message, "body", timeout=MANY_SECONDS))

    @app.get("/tasks/<client_id>/export")
    async def export_tasks(client_id: str) -> Any:
        who = await _owner(services, client_id)
        wanted: TaskExport = query_as(TaskExport)

        async def page(data: TaskList) -> Any:
            return await _ask(services, ListTasks(**_read(who), data=data), "query")

        return await export_response(wanted, page)

    @app.post("/tasks/<client_id>/import")
    async def import_tasks(client_id: str) -> Any:
        who = await _owner(services, client_id)
        message = ImportTasks(**await _write(who), data=await body_as(TaskImport))
        return _json(await _ask(services, message, "body", timeout=MANY_SECONDS))

    @app.post("/tasks/<client_id>/cleanup")
    async def clean_up(client_id: str) -> Any:
        who = await _owner(services, client_id)
        message = CleanUpTasks(**await _write(who), data=await body_as(TaskCleanup))
        return _json(await _ask(services, message, "body", timeout=MANY_SECONDS))


def _register_single(app: QuartTrio, services: Services) -> None:
    """Register routes for one task."""

    @app.post("/tasks/<client_id>")
    async def create_task(client_id: str) -> Any:
        who = await _owner(services, client_id)
        data: TaskCreate = await body_as(TaskCreate)
        seconds = ASK_SECONDS + (data.ai_timeout_seconds if data.analyze_with_ai else 0)
        message = CreateTask(**await _write(who), data=data)
        task = await _ask(services, message, "body", timeout=seconds)
        response = _task(task, status=201)
        response.headers["Location"] = f"/tasks/{client_id}/{task.id}"
        return response

    @app.get("/tasks/<client_id>/<uuid:task_id>")
    async def get_task(client_id: str, task_id: UUID) -> Any:
        who = await _owner(services, client_id)
        return _task(await _ask(services, GetTask(**_read(who), data=TaskGet(task_id=str(task_id))), "path"))

    @app.patch("/tasks/<client_id>/<uuid:task_id>")
    @judges_conditions
    async def update_task(client_id: str, task_id: UUID) -> Any:
        return await _change(services, client_id, task_id, UpdateTask, TaskUpdate, read_body=_as_update)

    @app.delete("/tasks/<client_id>/<uuid:task_id>")
    @judges_conditions
    async def delete_task(client_id: str, task_id: UUID) -> Any:
        who = await _owner(services, client_id)

        async def delete(known: dict[str, Any]) -> DeleteTask:
            return DeleteTask(**await _write(who), data=query_as(TaskDelete, **known))

        return _json(await _at_version(services, who, {}, task_id, delete, "query"))

    @app.post("/tasks/<client_id>/<uuid:task_id>/move")
    @judges_conditions
    async def move_task(client_id: str, task_id: UUID) -> Any:
        return await _change(services, client_id, task_id, MoveTask, TaskMove)

    @app.post("/tasks/<client_id>/<uuid:task_id>/decision")
    @judges_conditions
    async def decide_task(client_id: str, task_id: UUID) -> Any:
        return await _change(services, client_id, task_id, DecideTask, TaskDecide)

    @app.get("/tasks/<client_id>/<uuid:task_id>/history")
    async def read_history(client_id: str, task_id: UUID) -> Any:
        who = await _owner(services, client_id)
        data = query_as(TaskHistory, task_id=str(task_id))
        return _json(await _ask(services, ReadHistory(**_read(who), data=data), "query"))


async def _change(
    services: Services,
    client_id: str,
    task_id: UUID,
    message: type[TaskRequest[Task]],
    wanted: type,
    *,
    read_body: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body,
) -> Response:
    """Apply the change that the body describes to the task and version named by path and header."""
    who = await _owner(services, client_id)
    body = read_body(await json_body())

    async def change(known: dict[str, Any]) -> TaskRequest[Task]:
        return message(**await _write(who), data=structure(known, wanted, prefix="body"))

    return _task(await _at_version(services, who, body, task_id, change, "body"))


async def _owner(services: Services, client_id: str) -> Identity:
    """Identify the owner of these tasks. Raises `CommandError`."""
    if not CLIENT_NAME.fullmatch(client_id):
        raise InvalidField(f"client_id must match {CLIENT_NAME.pattern}", field="client_id")
    return await identity(services, client_id)


def _read(who: Identity) -> dict[str, Any]:
    return {"client_id": who.client_id, "device_id": REST_DEVICE}


async def _write(who: Identity) -> dict[str, Any]:
    return {**_read(who), "key": await idempotency_key(who, "tasks")}


async def _ask(services: Services, message: TaskRequest[Reply], part: str, *, timeout: float = ASK_SECONDS) -> Reply:  # noqa: ASYNC109
    """Ask the service. Errors name the part of the request that they are about."""
    try:
        return await services.tasks.ask(message, timeout=timeout)
    except CommandError as refusal:
        kind = CommandError
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


async def _at_version(
    services: Services,
    who: Identity,
    body: dict[str, Any],
    task_id: UUID,
    make: Callable[[dict[str, Any]], Awaitable[TaskRequest[Reply]]],
    part: str,
) -> Reply:
    """Send the write that ``make`` builds from the body, the path's id and the version that the preconditions select.

    Raises `CommandError`.
    """
    if "task_id" in body:
        raise InvalidField("body.task_id is not a field of this request; the path names the task", field="body.task_id")
    if_match, _ = conditions()
    known = {**body, "task_id": str(task_id)}
    if if_match is not None or "version" in body:
        # Errors in the request take precedence over its preconditions (RFC 9110, 13.2.1).
        await make({**known, "version": body.get("version", 1)})
    is_any = if_match is not None and if_match.is_any
    for tries_left in reversed(range(ANY_VERSION_TRIES if is_any else 1)):
        message = await make({**known, "version": await _version(services, who, body, task_id)})
        try:
            return await _ask(services, message, part)
        except StaleVersion:
            # The version that `*` stood for has changed meanwhile.
            if not tries_left:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


async def _version(services: Services, who: Identity, body: dict[str, Any], task_id: UUID) -> Any:
    if_match, if_none_match = conditions()
    if if_match is None and "version" not in body:
        raise InvalidField('If-Match must name the version to change, such as "3"', field="If-Match")
    named = [] if if_match is None else [version for one in if_match.tags if (version := version_of(one)) is not None]
    is_one = if_match is not None and len(if_match.tags) == len(named) == 1
    task: Task | None = None
    if if_none_match is not None or (if_match is not None and not is_one):
        task = await _ask(services, GetTask(**_read(who), data=TaskGet(task_id=str(task_id))), "path")
    known = () if if_none_match is None else tuple(version_of(one) for one in if_none_match.tags)
    if if_none_match is not None and task is not None and (if_none_match.is_any or task.version in known):
        raise _stale("If-None-Match", task)
    if if_match is None or (if_match.is_any and "version" in body):
        return body["version"]
    if is_one:
        version = named[0]
    else:
        assert task is not None
        version = task.version
        if not if_match.is_any and version not in named:
            if not named or "Idempotency-Key" not in request.headers:
                raise _stale("If-Match", task)
            # This may be a retry, made at another of the versions: the idempotency record decides.
            version = named[0]
    if body.get("version", version) != version:
        raise InvalidField("body.version must match If-Match", field="body.version")
    return version


def _stale(header: str, task: Task) -> StaleVersion:
    return StaleVersion(
        ErrorCode.CONFLICT, f"the task is at version {task.version}", field=header, current=unstructure(task)
    )


def _as_update(body: dict[str, Any]) -> dict[str, Any]:
    """Convert a JSON merge patch (RFC 7396), in which null clears a field."""
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
    """Return a task with its version as entity tag."""
    response = _json(task, status=status)
    # The tag includes `is_blocked`, which other tasks change without a change of this task's version.
    set_tag(response, f"{task.version}-blocked" if task.is_blocked else str(task.version))
    return response
