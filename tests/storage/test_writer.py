"""The storage service: what it acknowledges is on disk, whole, once, in order, and published to every subscriber."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import trio
from attrs import frozen
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from actors.errors import CommandError
from actors.storage.database import open_engine
from actors.storage.log import LOG_PAGE, OPEN_LOG, LogPageQuery
from actors.storage.messages import (
    Committed,
    DescribeStorage,
    IdempotencyKey,
    LogEvent,
    LogsAdvanced,
    Operation,
    Outcome,
    PublishEvents,
    Query,
    StorageHealth,
    Trigger,
    TriggersCommitted,
)
from protocol.errors import ErrorCode
from protocol.events import Priority
from runtime import AskDeadline, HandlerFailed
from runtime.testing import crash
from tests.server_fixture import eventually
from tests.storage_service import StorageService, storage_service


@frozen(kw_only=True)
class Note:
    """Row of the test service."""

    text: str
    length: int


def _note(connection: Connection, wanted: str) -> Outcome[Note]:
    connection.execute(text("INSERT INTO notes VALUES (:text)"), {"text": wanted})
    if wanted == "refuse me":
        raise CommandError(ErrorCode.CONFLICT, "no such note", field="data.text")
    if wanted == "break":
        raise ZeroDivisionError(wanted)
    return Outcome(
        value=Note(text=wanted, length=len(wanted)),
        events=(LogEvent(type="noted", channel="tasks", data={"text": wanted}),),
        triggers=(Trigger(kind="noted", data={"text": wanted}),) if wanted.startswith("tell") else (),
    )


def _pragma(connection: Connection, wanted: str) -> Outcome[str]:
    return Outcome(value=str(connection.exec_driver_sql(f"PRAGMA {wanted}").scalar()))


class Gate:
    """An operation that waits in the writer's thread until the test releases it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.operation: Operation[str, str] = Operation("gate", self._pass, str)

    def _pass(self, connection: Connection, command: str) -> Outcome[str]:
        self.entered.set()
        assert self.leave.wait(10)
        return Outcome(value=command)


NOTE: Operation[str, Note] = Operation("note", _note, Note)
PRAGMA: Operation[str, str] = Operation("pragma", _pragma, str)
NOTES: Query[None, list[str]] = Query(
    "notes", lambda connection, _: list(connection.execute(text("SELECT text FROM notes ORDER BY rowid")).scalars())
)


@pytest.fixture
def notes(database: URL) -> URL:
    """Create a database with the test service's table."""
    engine = open_engine(database, writes=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (text TEXT UNIQUE)"))
    engine.dispose()
    return database


def service_on(url: URL, *more: Operation[Any, Any], **arguments: Any) -> Any:
    return storage_service(url, operations=(NOTE, PRAGMA, *more), queries=(NOTES,), **arguments)


async def note(service: StorageService, wanted: str, client_id: str = "me", **arguments: Any) -> Committed[Note]:
    return await service.storage.transact(NOTE, wanted, client_id=client_id, **arguments)


def key(command_id: str, digest: str = "d", device_id: str = "phone") -> IdempotencyKey:
    return IdempotencyKey(client_id="me", device_id=device_id, command_id=command_id, digest=digest)


async def page(service: StorageService, after_seq: int = 0, client_id: str = "me") -> Any:
    return await service.storage.read(LOG_PAGE, LogPageQuery(client_id=client_id, after_seq=after_seq))


async def test_an_answered_write_is_on_disk_with_its_event(notes: URL) -> None:
    async with service_on(notes) as service:
        committed = await note(service, "milk")
        assert committed == Committed(value=Note(text="milk", length=4), head=1)
        found = await page(service)
        assert (found.head, found.oldest, len(found.events)) == (1, 1, 1)
        data = json.loads(found.events[0].data)
        assert {name: data[name] for name in ("text", "channel", "priority")} == {
            "text": "milk",
            "channel": "tasks",
            "priority": "medium",
        }
        assert len(data["event_id"]) == 36
    async with service_on(notes) as reopened:
        assert await reopened.storage.read(NOTES, None) == ["milk"]


async def test_sequence_numbers_have_no_hole_where_a_write_was_undone(notes: URL) -> None:
    async with service_on(notes) as service:
        await note(service, "one")
        with pytest.raises(CommandError) as refused:
            await note(service, "refuse me")
        assert (refused.value.code, refused.value.field) == (ErrorCode.CONFLICT, "data.text")
        with pytest.raises(HandlerFailed, match="ZeroDivisionError"):
            await note(service, "break")
        with pytest.raises(HandlerFailed, match="UNIQUE"):
            await note(service, "one")
        assert (await note(service, "two")).head == 2
        assert await service.storage.read(NOTES, None) == ["one", "two"]
        assert [json.loads(one.data)["text"] for one in (await page(service)).events] == ["one", "two"]


async def test_each_client_has_a_log_and_an_epoch_of_its_own(notes: URL) -> None:
    async with service_on(notes) as service:
        await note(service, "a")
        await note(service, "b", client_id="you")
        epoch = (await service.storage.transact(OPEN_LOG, "me", client_id="me")).value
        assert (await page(service)).epoch == epoch
        theirs = await page(service, client_id="you")
        assert theirs.head == 1
        assert theirs.epoch != epoch
        nobody = await page(service, client_id="nobody")
        # The epoch that it would begin with.
        assert nobody.epoch not in ("", epoch, theirs.epoch)
        assert (nobody.head, nobody.oldest) == (0, 1)


async def test_writes_that_wait_are_committed_together_and_fail_alone(notes: URL) -> None:
    gate = Gate()
    async with service_on(notes, gate.operation) as service:
        outcomes: dict[str, object] = {}

        async def write(wanted: str) -> None:
            try:
                outcomes[wanted] = (await note(service, wanted)).head
            except (CommandError, HandlerFailed) as error:
                outcomes[wanted] = type(error).__name__

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: service.storage.transact(gate.operation, "x", client_id="me"))
            await eventually(gate.entered.is_set)
            for index in range(20):
                nursery.start_soon(write, f"note {index:02}")
            for wanted in ("break", "refuse me"):
                nursery.start_soon(write, wanted)
            await trio.testing.wait_all_tasks_blocked()
            gate.leave.set()
        assert outcomes.pop("break") == "HandlerFailed"
        assert outcomes.pop("refuse me") == "CommandError"
        assert sorted(outcomes.values()) == list(range(1, 21))  # type: ignore[type-var]
        health: StorageHealth = await service.storage.writer.ask(DescribeStorage(), timeout=60)
        # One for the gate, one for all that waited meanwhile.
        assert health.transactions == 2
        published = [one for one in service.registry.received if isinstance(one, PublishEvents)]
        assert [event.seq for one in published for event in one.events] == list(range(1, 21))


async def test_a_repeated_command_is_carried_out_once_and_answered_alike(notes: URL) -> None:
    async with service_on(notes) as service:
        first = await note(service, "milk", key=key("7"))
        again = await note(service, "milk", key=key("7"))
        assert again == Committed(value=first.value, is_repeat=True, head=1)
        with pytest.raises(CommandError) as refused:
            await note(service, "bread", key=key("7", digest="other"))
        assert (refused.value.code, refused.value.field) == (ErrorCode.CONFLICT, "id")
        # Another device may use the same id for something else.
        assert (await note(service, "bread", key=key("7", device_id="laptop"))).is_repeat is False
        assert (await page(service)).head == 2


async def test_a_repeated_command_is_known_after_a_restart(notes: URL) -> None:
    async with service_on(notes) as service:
        await note(service, "milk", key=key("7"))
    async with service_on(notes) as service:
        again = await note(service, "milk", key=key("7"))
        assert (again.is_repeat, again.value) == (True, Note(text="milk", length=4))


async def test_a_refused_command_may_come_again(notes: URL) -> None:
    async with service_on(notes) as service:
        for _ in range(2):
            with pytest.raises(CommandError, match="no such note"):
                await note(service, "refuse me", key=key("7"))


async def test_a_write_whose_asker_is_gone_before_it_begins_is_never_begun(notes: URL) -> None:
    gate = Gate()
    async with service_on(notes, gate.operation) as service, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: service.storage.transact(gate.operation, "x", client_id="me"))
        await eventually(gate.entered.is_set)
        with pytest.raises(AskDeadline):
            await note(service, "late", timeout=0.05)
        gate.leave.set()
        await note(service, "after")
        assert await service.storage.read(NOTES, None) == ["after"]


async def test_a_full_disk_refuses_writes_and_goes_on_reading_and_writing_again(notes: URL) -> None:
    async with service_on(notes) as service:
        await note(service, "small")
        pages = (await service.storage.transact(PRAGMA, "page_count", client_id="me")).value
        await service.storage.transact(PRAGMA, f"max_page_count={pages}", client_id="me")
        with pytest.raises(CommandError) as refused:
            await note(service, "x" * 30_000)
        assert (refused.value.code, refused.value.code.is_temporary) == (ErrorCode.UNAVAILABLE, True)
        health: StorageHealth = await service.storage.writer.ask(DescribeStorage(), timeout=60)
        assert (health.is_writable, health.problem) == (False, "database or disk is full")
        assert await service.storage.read(NOTES, None) == ["small"]
        await service.storage.transact(PRAGMA, "max_page_count=100000", client_id="me")
        await note(service, "y" * 30_000)
        health = await service.storage.writer.ask(DescribeStorage(), timeout=60)
        assert (health.is_writable, health.problem) == (True, None)


async def test_the_relay_publishes_in_commit_order_and_wakes_the_dispatcher(notes: URL) -> None:
    async with service_on(notes) as service:
        await service.registry.expect(LogsAdvanced)
        await note(service, "quiet")
        told: PublishEvents = await service.registry.expect(PublishEvents)
        assert [(one.client_id, one.seq, one.type) for one in told.events] == [("me", 1, "noted")]
        assert not [one for one in service.dispatcher.received if isinstance(one, TriggersCommitted)]
        await note(service, "tell them")
        await service.dispatcher.expect(TriggersCommitted)


async def test_after_a_crash_the_relay_lets_everyone_look_at_their_logs(notes: URL) -> None:
    async with service_on(notes) as service:
        await service.registry.expect(LogsAdvanced)
        crash(service.system, "relay", RuntimeError("on purpose"))
        await service.registry.expect(LogsAdvanced)
        await note(service, "milk")
        await service.registry.expect(PublishEvents)


async def test_what_a_restarting_directory_missed_is_announced_to_it(notes: URL) -> None:
    async with service_on(notes) as service:
        await service.registry.expect(LogsAdvanced)
        crash(service.system, "registry", RuntimeError("on purpose"))
        await note(service, "milk")
        # Whether the event itself still came is a race; that the logs are read is not.
        found = await eventually(lambda: [one for one in service.registry.received if one != LogsAdvanced()])
        heads = service.registry.received.count(LogsAdvanced())
        assert found or heads > 1


async def test_the_hook_of_notifications_writes_in_the_same_transaction(notes: URL) -> None:
    def hook(connection: Connection, client_id: str, triggers: tuple[Trigger, ...]) -> tuple[LogEvent, ...]:
        for one in triggers:
            connection.execute(text("INSERT INTO notes VALUES (:text)"), {"text": f"{client_id}: {one.data['text']}!"})
            if one.data["text"] == "tell nobody":
                raise ZeroDivisionError
        return (LogEvent(type="notification", channel="notifications", priority=Priority.HIGH, data={"n": 1}),)

    async with service_on(notes, hook=hook) as service:
        assert (await note(service, "tell me")).head == 2
        assert [one.type for one in (await page(service)).events] == ["noted", "notification"]
        with pytest.raises(HandlerFailed):
            await note(service, "tell nobody")
        assert await service.storage.read(NOTES, None) == ["tell me", "me: tell me!"]


async def test_unknown_names_are_the_askers_mistake_and_harm_nobody(notes: URL) -> None:
    async with service_on(notes) as service:
        with pytest.raises(HandlerFailed, match="no operation"):
            await service.storage.transact(Operation("nothing", _note, Note), "x", client_id="me")
        with pytest.raises(HandlerFailed, match="no query"):
            await service.storage.read(Query("nothing", lambda *_: None), None)
        await note(service, "still here")


async def test_a_reader_cannot_write(notes: URL) -> None:
    intruder: Query[None, None] = Query(
        "intruder", lambda connection, _: connection.execute(text("DELETE FROM notes")) and None
    )
    async with storage_service(notes, queries=(intruder,)) as service:
        with pytest.raises(CommandError, match="cannot be read"):
            await service.storage.read(intruder, None)
