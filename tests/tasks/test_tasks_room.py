"""The actor: what it does while storage or the model fail, and that nothing of an analysis is lost or made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from sqlalchemy.engine import URL

from actors.inference.messages import Complete, Completion, GenerationRefused
from actors.storage.messages import Read, Storage
from actors.tasks.messages import CreateTask, GetTask, ListTasks, TaskRequest, UpdateTask
from actors.tasks.store import OPERATIONS, QUERIES
from actors.tasks.tasks import REQUESTS_AT_ONCE, RETRY_SECONDS, Tasks
from protocol.errors import ErrorCode
from protocol.events import Done, FinishReason, Timings, Usage
from protocol.task_model import AnalysisStatus, Task
from protocol.tasks import TaskCreate, TaskGet, TaskList, TaskUpdate
from runtime import ActorDead, AskDeadline, ChildSpec, MailboxFull
from runtime.testing import Probe, RecordingRef, run_handler
from tests.server_fixture import eventually
from tests.storage_room import StorageRoom, storage_room

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
async def tasks_room(
    database: URL, answers: list[object], *, clock: Callable[[], float] = lambda: NOW, **hooks: Any
) -> AsyncIterator[StorageRoom]:
    """The room on real storage, with a model that gives these answers, one after the other."""

    def next_answer(_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    model = Probe({Complete: next_answer})

    def children(system: Any, storage: Any) -> list[ChildSpec]:
        return [
            ChildSpec(id="model", start=model.start),
            ChildSpec(id="tasks", start=lambda: Tasks(storage, system.reference("model"), clock_seconds=clock)),
        ]

    async with storage_room(database, operations=OPERATIONS, queries=QUERIES, children=children, **hooks) as room:
        yield room


async def ask(room: StorageRoom, message: TaskRequest[Any]) -> Any:
    return await room.system.reference("tasks").ask(message, timeout=30)


async def create(room: StorageRoom, **data: Any) -> Task:
    wanted = TaskCreate(**{"title": "t", "analyze_with_ai": True, "ai_timeout_seconds": 20, **data})
    task: Task = await ask(room, CreateTask(**said(data=wanted)))
    return task


async def test_an_analysis_is_the_models_own_words_with_their_measured_confidence(database: URL) -> None:
    async with tasks_room(database, [completion(" three steps\n")]) as room:
        task = await create(room)
    assert (task.ai_analysis, task.ai_analysis_confidence) == ("three steps", 0.75)
    assert (task.ai_analysis_status, task.version) == (AnalysisStatus.DONE, 1)


async def test_a_model_that_is_not_there_yet_is_asked_again(database: URL) -> None:
    answers = [GenerationRefused(ErrorCode.MODEL_UNAVAILABLE, "loading"), completion("late but true")]
    began = trio.current_time()
    async with tasks_room(database, answers) as room:
        task = await create(room)
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
    async with tasks_room(database, [answer]) as room:
        task = await create(room)
        assert task.ai_analysis_status is AnalysisStatus.FAILED
        assert (task.ai_analysis, task.ai_analysis_confidence, task.version) == (None, None, 1)
        page = await ask(room, ListTasks(**said(data=TaskList())))
        assert page.tasks == [task]


async def test_analyses_of_many_tasks_are_all_made(database: URL) -> None:
    async with tasks_room(database, [completion(f"answer {number}") for number in range(12)]) as room:
        made: list[Task] = []

        async def one() -> None:
            made.append(await create(room))

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
    async with tasks_room(database, [GenerationRefused(ErrorCode.SHUTTING_DOWN, "later")]) as room:
        task = await create(room)
        assert task.ai_analysis_status is AnalysisStatus.PENDING
    async with tasks_room(database, [completion("after all")]) as room:

        async def done() -> bool:
            now = await ask(room, GetTask(**said(data=TaskGet(task_id=task.id))))
            return bool(now.ai_analysis == "after all")

        await eventually(done)


async def test_due_dates_that_are_near_are_triggered_at_start(database: URL) -> None:
    told: list[str] = []

    def hook(_: Any, client_id: str, triggers: tuple[Any, ...]) -> tuple[Any, ...]:
        told.extend(f"{client_id}:{one.kind}" for one in triggers)
        return ()

    async with tasks_room(database, [], hook=hook) as room:
        wanted = TaskCreate(title="t", due="2026-09-21T20:00:00Z")
        task = await ask(room, CreateTask(**said(data=wanted)))
    # The same database a little later, and once more.
    for _ in range(2):
        async with tasks_room(database, [], hook=hook) as room:
            await eventually(lambda: "me:due_soon" in told)
            again = await ask(
                room, UpdateTask(**said(data=TaskUpdate(task_id=task.id, version=task.version, tags=["x"])))
            )
            task = again if again.version > task.version else task
    assert told.count("me:due_soon") == 1
