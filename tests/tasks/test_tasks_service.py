"""The actor: what it does while storage or the model fail, and that nothing of an analysis is lost or made up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from actors.errors import CommandError
from actors.inference.messages import Complete, Completion, GenerationRefused
from actors.storage.messages import Committed, Query, Read, Storage, Transact
from actors.tasks.actor import REQUESTS_AT_ONCE, RETRY_SECONDS, CheckDueTasks, Tasks
from actors.tasks.analysis import wants_analysis
from actors.tasks.context import CommandContext
from actors.tasks.due import DueTasksQuery
from actors.tasks.messages import ChangeInBulk, CreateTask, GetTask, ListTasks, TaskRequest, UpdateTask
from actors.tasks.store import CLIENTS_WITH_DUE, ENDED_LEASES, OPERATIONS, PENDING_ANALYSES, QUERIES, WRITES
from protocol.codec import wire_time
from protocol.errors import ErrorCode
from protocol.events import Done, FinishReason, Timings, Usage
from protocol.task_model import AnalysisStatus, Task
from protocol.tasks import BulkItem, TaskBulk, TaskCreate, TaskGet, TaskList, TaskUpdate
from runtime import ActorDead, AskDeadline, ChildSpec, MailboxFull
from runtime.testing import Probe, RecordingRef, run_handler
from tests.server_fixture import eventually
from tests.storage_service import StorageService, storage_service

NOW = 1_790_000_000.0


def completion(text: str) -> Completion:
    done = Done(
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=1, completion_tokens=1),
        timings=Timings(queued_ms=0, first_token_ms=0, total_ms=0, tokens_per_second=None),
        confidence=0.75,
        seed=1,
    )
    return Completion(text=text, done=done)


def said(**what: Any) -> dict[str, Any]:
    return {"client_id": "me", "device_id": "desk", **what}


@asynccontextmanager
async def tasks_service(
    database: URL,
    answers: list[object],
    *,
    clock: Callable[[], float] = lambda: NOW,
    steady: Callable[[], float] = time.monotonic,
    queries: Iterable[Query[Any, Any]] = QUERIES,
    **hooks: Any,
) -> AsyncIterator[StorageService]:
    """The tasks service on real storage, with a model that gives these answers in turn."""

    def next_answer(_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    model = Probe({Complete: next_answer})

    def children(system: Any, storage: Any) -> list[ChildSpec]:
        return [
            ChildSpec(id="model", start=model.start),
            ChildSpec(
                id="tasks",
                start=lambda: Tasks(storage, system.reference("model"), clock_seconds=clock, steady_seconds=steady),
            ),
        ]

    async with storage_service(database, operations=OPERATIONS, queries=queries, children=children, **hooks) as service:
        yield service


async def ask(service: StorageService, message: TaskRequest[Any]) -> Any:
    return await service.system.reference("tasks").ask(message, timeout=30)


async def create(service: StorageService, **data: Any) -> Task:
    wanted = TaskCreate(**{"title": "t", "analyze_with_ai": True, "ai_timeout_seconds": 20, **data})
    task: Task = await ask(service, CreateTask(**said(data=wanted)))
    return task


async def test_an_analysis_is_the_models_own_words_with_their_measured_confidence(database: URL) -> None:
    async with tasks_service(database, [completion(" three steps\n")]) as service:
        task = await create(service)
    assert (task.ai_analysis, task.ai_analysis_confidence) == ("three steps", 0.75)
    assert (task.ai_analysis_status, task.version) == (AnalysisStatus.DONE, 1)


async def test_a_model_that_is_not_there_yet_is_asked_again(database: URL) -> None:
    answers = [GenerationRefused(ErrorCode.MODEL_UNAVAILABLE, "loading"), completion("late but true")]
    began = trio.current_time()
    async with tasks_service(database, answers) as service:
        task = await create(service)
    assert task.ai_analysis == "late but true"
    assert trio.current_time() - began >= RETRY_SECONDS


@pytest.mark.parametrize(
    "answer",
    [
        GenerationRefused(ErrorCode.ENGINE_FAILED, "it fell"),
        GenerationRefused(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long"),
        RuntimeError("a defect"),
        completion("  \n"),
    ],
)
async def test_a_failure_is_told_as_one_and_no_text_is_made_up(database: URL, answer: object) -> None:
    async with tasks_service(database, [answer]) as service:
        task = await create(service)
        assert task.ai_analysis_status is AnalysisStatus.FAILED
        assert (task.ai_analysis, task.ai_analysis_confidence, task.version) == (None, None, 1)
        page = await ask(service, ListTasks(**said(data=TaskList())))
        assert page.tasks == [task]


async def test_analyses_of_many_tasks_are_all_made(database: URL) -> None:
    async with tasks_service(database, [completion(f"answer {number}") for number in range(12)]) as service:
        made: list[Task] = []

        async def one() -> None:
            made.append(await create(service))

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(one)
    assert len({one.ai_analysis for one in made}) == 12


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ActorDead("storage/readers", 1, "crashed"), ErrorCode.UNAVAILABLE),
        (MailboxFull("storage/readers", 1), ErrorCode.OVERLOADED),
        (AskDeadline("storage/readers", Read, 1.0), ErrorCode.DEADLINE_EXCEEDED),
    ],
)
async def test_a_storage_that_cannot_answer_is_told_as_what_it_is(error: Exception, code: ErrorCode) -> None:
    readers = RecordingRef("storage/readers", {Read: error})
    actor = Tasks(Storage(RecordingRef("storage/writer"), readers), RecordingRef("model"))
    effects = await run_handler(actor, ListTasks(**said(data=TaskList())), run_spawned=True)
    assert getattr(effects.error, "code", None) is code
    assert actor.snapshot() == {"requests": 0, "analysing": 0}


async def test_more_requests_than_may_wait_are_refused() -> None:
    actor = Tasks(Storage(RecordingRef("storage/writer"), RecordingRef("storage/readers")), RecordingRef("model"))
    for _ in range(REQUESTS_AT_ONCE):
        assert (await run_handler(actor, ListTasks(**said(data=TaskList())))).error is None
    effects = await run_handler(actor, ListTasks(**said(data=TaskList())))
    assert getattr(effects.error, "code", None) is ErrorCode.OVERLOADED


async def test_a_server_that_is_about_to_end_leaves_the_analysis_for_its_next_start(database: URL) -> None:
    async with tasks_service(database, [GenerationRefused(ErrorCode.SHUTTING_DOWN, "later")]) as service:
        task = await create(service)
        assert task.ai_analysis_status is AnalysisStatus.PENDING
    async with tasks_service(database, [completion("after all")]) as service:
        await until_analysed(service, task.id, "after all")


async def test_due_dates_that_are_near_are_triggered_at_start(database: URL) -> None:
    told: list[str] = []

    def hook(_: Any, client_id: str, triggers: tuple[Any, ...]) -> tuple[Any, ...]:
        told.extend(f"{client_id}:{one.kind}" for one in triggers)
        return ()

    async with tasks_service(database, [], hook=hook) as service:
        wanted = TaskCreate(title="t", due="2026-09-21T20:00:00Z")
        task = await ask(service, CreateTask(**said(data=wanted)))
    # The same database a little later, and once more.
    for _ in range(2):
        async with tasks_service(database, [], hook=hook) as service:
            await eventually(lambda: "me:due_soon" in told)
            again = await ask(
                service, UpdateTask(**said(data=TaskUpdate(task_id=task.id, version=task.version, tags=["x"])))
            )
            task = again if again.version > task.version else task
    assert told.count("me:due_soon") == 1


async def test_a_due_date_that_was_told_ahead_is_told_again_once_the_clock_was_set_right(database: URL) -> None:
    told: list[str] = []
    days = [8.0]

    def hook(_: Any, __: str, triggers: tuple[Any, ...]) -> tuple[Any, ...]:
        told.extend(one.kind for one in triggers)
        return ()

    def at(day: float) -> float:
        return NOW + day * 86_400

    due = wire_time(at(9))
    async with tasks_service(database, [], hook=hook, clock=lambda: at(days[0])) as service:
        await ask(service, CreateTask(**said(data=TaskCreate(title="t", due=due))))

        async def is_untold() -> bool:
            # A look that is told of during another one is left out.
            tasks.tell_nowait(CheckDueTasks())
            wanted = DueTasksQuery(now_ms=int(at(8) * 1000))
            return bool(await service.storage.read(CLIENTS_WITH_DUE, wanted))

        async def is_told() -> bool:
            return not await is_untold()

        tasks = service.system.reference("tasks")
        await eventually(is_told)
        days[0] = 1.0
        await eventually(is_untold)
        assert told.count("due_soon") == 1
        days[0] = 8.0
        await eventually(is_told)
        assert told.count("due_soon") == 2


DISK_FULL = OperationalError("INSERT", {}, Exception("database or disk is full"))


async def test_an_analysis_that_cannot_be_kept_yet_is_kept_when_the_database_takes_it(
    database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.tasks.actor.LONGEST_RETRY_SECONDS", 0.01)
    full = [DISK_FULL, DISK_FULL]

    def hook(_: Any, __: str, triggers: tuple[Any, ...]) -> tuple[Any, ...]:
        if full and any(one.kind == "analysis_done" for one in triggers):
            raise full.pop()
        return ()

    # The model answers once: what it said is not thrown away.
    async with tasks_service(database, [completion("said once")], hook=hook) as service:
        task = await create(service)
    assert (task.ai_analysis, full) == ("said once", [])


async def test_what_waits_for_an_analysis_is_found_once_the_database_can_be_read(
    database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.tasks.actor.LONGEST_RETRY_SECONDS", 0.01)
    failures = [DISK_FULL, DISK_FULL]

    def failing_at_first(connection: Connection, wanted: Any) -> Any:
        if failures:
            raise failures.pop()
        return PENDING_ANALYSES.function(connection, wanted)

    queries = [Query(one.name, failing_at_first) if one is PENDING_ANALYSES else one for one in QUERIES]
    async with tasks_service(database, [completion("found")], queries=queries) as service:
        assert (await create(service)).ai_analysis == "found"
    assert failures == []


async def test_due_dates_and_leases_are_looked_for_again_after_the_database_could_not_be_read() -> None:
    readers = RecordingRef("storage/readers", {Read: CommandError(ErrorCode.UNAVAILABLE, "no disk")})
    actor = Tasks(Storage(RecordingRef("storage/writer"), readers), RecordingRef("model"))
    for _ in range(2):
        assert (await run_handler(actor, CheckDueTasks(), run_spawned=True)).error is None
    wanted = sorted([CLIENTS_WITH_DUE.name, ENDED_LEASES.name] * 2)
    assert sorted(one.message.query for one in readers.asked) == wanted
    # While one look lasts, no second one begins.
    assert len((await run_handler(actor, CheckDueTasks())).spawned) == 2
    assert (await run_handler(actor, CheckDueTasks())).spawned == []


async def test_a_task_is_told_as_it_was_made_where_it_cannot_be_read_again(database: URL) -> None:
    async with tasks_service(database, []) as service:
        made = await create(service, analyze_with_ai=False)
    writer = RecordingRef("storage/writer", {Transact: Committed(value=made)})
    readers = RecordingRef("storage/readers", {Read: ActorDead("storage/readers", 1, "crashed")})
    actor = Tasks(Storage(writer, readers), RecordingRef("model"))
    effects = await run_handler(
        actor,
        CreateTask(**said(data=TaskCreate(title="t", analyze_with_ai=True, ai_timeout_seconds=0))),
        run_spawned=True,
    )
    assert (effects.error, effects.reply) == (None, made)


async def test_a_model_that_is_never_there_fails_the_analysis_in_the_end(
    database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.tasks.actor.ANALYSIS_SECONDS", 0.05)
    monkeypatch.setattr("actors.tasks.actor.RETRY_SECONDS", 0.001)
    answers: list[object] = [ActorDead("model", 1, "crashed") for _ in range(100)]
    async with tasks_service(database, answers) as service:
        task = await create(service)
    assert (task.ai_analysis_status, task.ai_analysis) == (AnalysisStatus.FAILED, None)
    assert len(answers) < 100


async def until_analysed(service: StorageService, task_id: str, text: str) -> None:
    async def is_analysed() -> bool:
        now = await ask(service, GetTask(**said(data=TaskGet(task_id=task_id))))
        return bool(now.ai_analysis == text)

    await eventually(is_analysed)


@pytest.mark.parametrize(
    ("data", "is_wanted"),
    [
        (TaskCreate(title="a", analyze_with_ai=True), True),
        (TaskCreate(title="a"), False),
        (TaskBulk(items=[BulkItem(create=TaskCreate(title=one, analyze_with_ai=one == "b")) for one in "ab"]), True),
        (TaskBulk(items=[BulkItem(create=TaskCreate(title="a"))]), False),
        (TaskUpdate(task_id="00000000-0000-4000-8000-000000000000", version=1), False),
    ],
)
def test_only_commands_that_ask_for_an_analysis_have_those_that_wait_looked_for(data: object, is_wanted: bool) -> None:
    assert wants_analysis(data) is is_wanted


async def test_a_task_that_is_made_with_others_gets_its_analysis(database: URL) -> None:
    items = [BulkItem(create=TaskCreate(title="a")), BulkItem(create=TaskCreate(title="b", analyze_with_ai=True))]
    async with tasks_service(database, [completion("of b")]) as service:
        made = await ask(service, ChangeInBulk(**said(data=TaskBulk(items=items))))
        assert made.items[1].task is not None
        await until_analysed(service, made.items[1].task.id, "of b")


async def test_a_task_that_was_made_after_its_asker_had_given_up_gets_its_analysis(database: URL) -> None:
    async with tasks_service(database, [completion("all the same")]) as service:
        await create(service, analyze_with_ai=False)
        wanted = TaskCreate(title="t", analyze_with_ai=True)
        asked = CommandContext(client_id="me", device_id="desk", data=wanted, now_ms=int(NOW * 1000))
        made = await service.storage.transact(WRITES[CreateTask], asked, client_id="me")
        service.system.reference("tasks").tell_nowait(CheckDueTasks())
        await until_analysed(service, made.value.id, "all the same")
