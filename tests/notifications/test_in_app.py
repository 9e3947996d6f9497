"""The in-app channel: acknowledgements wait in order while nothing can be written, within a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from actors.errors import CommandError
from actors.notifications import in_app
from actors.notifications.acks import Acknowledged, StreamBegun
from actors.notifications.in_app import InApp
from actors.notifications.messages import AckNoted, DeviceBegan
from actors.storage.messages import Committed, Storage
from protocol.errors import ErrorCode
from runtime import ActorSystem, ChildSpec, SupervisorSpec
from runtime.testing import RecordingRef, running


def ack(seq: int, device_id: str = "phone") -> AckNoted:
    return AckNoted(client_id="me", device_id=device_id, seq=seq)


def begun(seq: int) -> DeviceBegan:
    return DeviceBegan(client_id="me", device_id="phone", seq=seq)


class Disk(RecordingRef):
    """A writer that refuses until allowed, then records what it is given. Either takes a second."""

    def __init__(self) -> None:
        super().__init__("writer")
        self.may_write = False
        self.refused = 0
        self.written: list[Acknowledged | StreamBegun] = []
        self._answered = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let its answers pass until the condition holds."""
        with trio.fail_after(60):
            while not condition():
                await self._answered.wait()

    async def ask(self, request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109  the real one's signature
        """Take a second, then answer."""
        await trio.sleep(1)
        self._answered.set()
        self._answered = trio.Event()
        if not self.may_write:
            self.refused += 1
            raise CommandError(ErrorCode.UNAVAILABLE, "the disk is full")
        self.written += request.command.entries
        return Committed(value=len(request.command.entries))


def tree(disk: Disk) -> SupervisorSpec:
    storage = Storage(disk, RecordingRef("readers"))
    child = ChildSpec(id="in_app", start=lambda: InApp(storage, RecordingRef("dispatcher")))
    return SupervisorSpec(children=(child,))


async def tell(system: ActorSystem, *messages: object) -> None:
    for one in messages:
        await system.reference("in_app").tell(one)


def told(disk: Disk) -> list[tuple[str, str, int]]:
    return [(type(one).__name__, one.device_id, one.seq) for one in disk.written]


async def test_n2_what_a_device_said_is_written_in_its_order_once_it_can_be(autojump_clock: trio.abc.Clock) -> None:
    disk = Disk()
    async with running(tree(disk)) as system:
        await tell(system, ack(5))
        await trio.sleep(0.5)
        # While that is being written the device disconnects, and returns after events that it was not sent.
        await tell(system, begun(9), ack(11), ack(10), ack(2, "watch"))
        await disk.until(lambda: disk.refused >= 2)
        disk.may_write = True
        await disk.until(lambda: len(disk.written) >= 4)
    phone = [one for one in told(disk) if one[1] == "phone"]
    assert phone == [("Acknowledged", "phone", 5), ("StreamBegun", "phone", 9), ("Acknowledged", "phone", 11)]
    assert [one for one in told(disk) if one[1] == "watch"] == [("Acknowledged", "watch", 2)]


async def test_n2_what_waits_of_one_device_is_bounded(autojump_clock: trio.abc.Clock) -> None:
    disk = Disk()
    async with running(tree(disk)) as system:
        for seq in range(1, 100):
            await tell(system, begun(2 * seq), ack(2 * seq + 1))
        await disk.until(lambda: disk.refused >= 1)
        disk.may_write = True
        await disk.until(lambda: bool(disk.written))
    assert len(disk.written) == in_app.ENTRIES_KEPT
    assert told(disk)[-1] == ("Acknowledged", "phone", 199)
