"""A fork server and its forked processes, as seen from the server."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
from attrs import define, field

from actors.inference.frames import FrameFault, FrameReader, pack
from actors.inference.sandbox.limits import LONGEST_SECONDS, OPEN_SECONDS, JobKind, JobLimits
from actors.inference.watchdog import RunQueueDelay
from actors.inference.worker_process import RECEIVE_BYTES, WorkerProcess

__all__ = [
    "KILLED_FROM_OUTSIDE",
    "ForkServerGone",
    "ForkServerProcess",
    "GrammarsLate",
    "OpenFailed",
    "Slot",
    "SlotEnded",
]

_log = structlog.get_logger("sandbox")

GRAMMARS_SECONDS = 30.0
FORK_SECONDS = 10.0
KILL_SECONDS = 1.0
KILLED_FROM_OUTSIDE = frozenset({-signal.SIGKILL, -signal.SIGTERM, 0})
"""Exit statuses of a process that was not ended by its own job."""
LAST_WORDS_SECONDS = 2.0
"""The fork server notices the end of a process at once."""


class OpenFailed(Exception):
    """The checkpoint's text side cannot be read; the message gives the reason."""


class ForkServerGone(Exception):
    """The fork server ended or does not answer. The job is not at fault."""


class GrammarsLate(ForkServerGone):
    """The fork server did not load its grammars in time, and was ended."""


class SlotEnded(Exception):
    """A process ended during its job."""

    def __init__(self, status: int) -> None:
        """``status`` is the exit status, or minus the signal's number."""
        super().__init__(f"status {status}")
        self.status = status


@define(kw_only=True, eq=False)
class Slot:
    """One forked process, owned by the task that currently uses it."""

    number: int
    kind: JobKind
    pid: int = 0
    stream: trio.SocketStream
    exit_status: int | None = None
    ended: trio.Event = field(factory=trio.Event)
    forked: trio.Event = field(factory=trio.Event)
    problem: str | None = None
    """The reason if it could not be forked."""
    _reader: FrameReader = field(factory=FrameReader)

    async def run(self, name: str, content: dict[str, Any], tell_step: Callable[[str], None]) -> tuple[str, Any]:
        """Runs one job and returns its final frame; ``tell_step`` receives the name of each step.

        Raises `SlotEnded`, or `FrameFault` for invalid frames. After cancellation the process cannot be reused.
        """
        try:
            await self.stream.send_all(pack(name, content))
            while True:
                data = await self.stream.receive_some(RECEIVE_BYTES)
                if not data:
                    break
                for answer, told in self._reader.feed(data):
                    if answer != "step":
                        return answer, told
                    tell_step(str(told["name"]))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        with trio.move_on_after(LAST_WORDS_SECONDS):
            await self.ended.wait()
        raise SlotEnded(self.exit_status if self.exit_status is not None else 0)

    def close(self) -> None:
        """Closes the connection without a checkpoint; an idle process then ends by itself."""
        self.stream.socket.close()


class ForkServerProcess:
    """The fork server process, its idle slots, and its report on the checkpoint."""

    def __init__(self, folder: Path | None, worker: WorkerProcess, limits: Mapping[JobKind, JobLimits]) -> None:
        self.folder = folder
        self.report: dict[str, Any] = {}
        self.is_gone = False
        self.slots: dict[int, Slot] = {}
        self._worker = worker
        self._limits = limits
        self._idle: dict[JobKind, list[Slot]] = {kind: [] for kind in JobKind}
        self._numbers = 0
        self._opened = trio.Event()
        self._problem: str | None = None
        self._grammars_wanted = trio.Event()
        self._grammars_loaded = trio.Event()
        self._loads_grammars = False
        self._control_lock = trio.Lock()

    @classmethod
    async def start(
        cls, folder: Path | None, limits: Mapping[JobKind, JobLimits], *, watches_memory: bool
    ) -> ForkServerProcess:
        """Starts a process; `serve` must run from then on. Raises `OSError`. Cancellation leaves nothing behind.

        ``watches_memory`` is for systems whose kernel does not enforce memory limits.
        """
        watching = ["--watch-memory"] if watches_memory else []
        words = [sys.executable, "-m", "actors.inference.sandbox", *watching, "--pipe"]
        return cls(folder, await WorkerProcess.start(lambda pipe: [*words, str(pipe)]), limits)

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._worker.pid

    @property
    def ended_itself(self) -> bool:
        """True if it was ended by its own work and not from outside. Valid once `serve` has returned."""
        return self._worker.process.returncode not in KILLED_FROM_OUTSIDE

    async def serve(self) -> None:
        """Reads frames until the process ends, then wakes all tasks that wait for it. Ends the process in every case."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._worker.drain_output)
                try:
                    while frames := await self._worker.receive():
                        for name, content in frames:
                            self._take(name, content)
                except FrameFault as error:
                    _log.error("fork server sent an invalid frame", sandbox_pid=self.pid, error=str(error))
                nursery.cancel_scope.cancel(reason="it is gone")
        finally:
            self.is_gone = True
            self._opened.set()
            self._grammars_wanted.set()
            self._grammars_loaded.set()
            for slot in self.slots.values():
                slot.ended.set()
                slot.forked.set()
                slot.close()
            await self._worker.end()

    def _take(self, name: str, content: dict[str, Any]) -> None:
        match name:
            case "opened":
                self.report = content
                self._opened.set()
            case "open_failed":
                self._problem = str(content["error"])
                self._opened.set()
            case "grammars_loaded":
                self._grammars_loaded.set()
            case "forked" | "fork_failed":
                slot = self.slots.get(content["slot"])
                if slot is not None:
                    slot.pid, slot.problem = content.get("pid", 0), content.get("error")
                    slot.forked.set()
            case "ended":
                slot = self.slots.pop(content["slot"], None)
                if slot is not None:
                    slot.exit_status = content["status"]
                    slot.ended.set()
                    if slot in self._idle[slot.kind]:
                        self._idle[slot.kind].remove(slot)
                        slot.close()

    async def open(self, processor_seconds: float) -> None:
        """Makes it read the checkpoint. Raises `OpenFailed` or `ForkServerGone`."""
        folder = None if self.folder is None else str(self.folder)
        await self._command("open", {"folder": folder, "processor_seconds": processor_seconds})
        try:
            is_read = await self._heard(self._opened, OPEN_SECONDS)
        except ForkServerGone:
            raise OpenFailed(
                "reading its tokenizer and template takes too long, or ends the process that does so"
            ) from None
        if not is_read:
            raise OpenFailed("reading its tokenizer and template takes too long")
        if self._problem is not None:
            raise OpenFailed(self._problem)

    async def needs_grammars(self) -> bool:
        """Waits until a job needs grammars; False if the process ended first."""
        await self._grammars_wanted.wait()
        return not self.is_gone

    async def load_grammars(self) -> None:
        """Makes it load grammars for schemas. Raises `ForkServerGone`."""
        self._loads_grammars = True
        await self._command("load_grammars", {})
        if not await self._heard(self._grammars_loaded, GRAMMARS_SECONDS):
            raise GrammarsLate("it did not load its grammars in time")

    def skip_grammars(self) -> None:
        """Makes each job load its own grammars."""
        self._grammars_loaded.set()

    async def take_slot(self, kind: JobKind) -> Slot:
        """An idle process, or a new one. Raises `ForkServerGone`. On cancellation the new one ends by itself."""
        if kind is JobKind.SCHEMA:
            self._grammars_wanted.set()
            await self._grammars_loaded.wait()
        if self._idle[kind]:
            return self._idle[kind].pop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._numbers += 1
        slot = Slot(number=self._numbers, kind=kind, stream=trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        self.slots[slot.number] = slot
        try:
            with theirs:
                await self._command("fork", {"slot": slot.number, "limits": attrs.asdict(self._limits[kind])}, theirs)
            # It does not fork while it loads its grammars, as requested.
            is_loading = self._loads_grammars and not self._grammars_loaded.is_set()
            if not await self._heard(slot.forked, FORK_SECONDS + (GRAMMARS_SECONDS if is_loading else 0)):
                raise ForkServerGone("it did not fork in time")
            if slot.problem is not None:
                raise ForkServerGone(f"it could not fork: {slot.problem}")
        except BaseException:
            self.slots.pop(slot.number, None)
            slot.close()
            raise
        return slot

    def put_back(self, slot: Slot) -> None:
        """Returns a process that has finished its job for reuse; it ends if enough are idle already."""
        if len(self._idle[slot.kind]) < self._limits[slot.kind].idle_processes and not self.is_gone:
            self._idle[slot.kind].append(slot)
        else:
            slot.close()

    async def end_slot(self, slot: Slot) -> None:
        """Kills a process during a job, even in a cancelled task. If that fails, its timers end it."""
        slot.close()
        if not self.is_gone:
            with trio.move_on_after(KILL_SECONDS, shield=True):
                with contextlib.suppress(ForkServerGone):
                    await self._command("kill", {"slot": slot.number})

    def end(self) -> None:
        """Kills it and everything it forked; `serve` cleans up. Without a checkpoint."""
        self.is_gone = True
        if self._worker.process.returncode is None:
            self._worker.process.kill()

    async def _command(self, name: str, content: dict[str, Any], passed: socket.socket | None = None) -> None:
        if self.is_gone:
            raise ForkServerGone("it has ended")
        frame = pack(name, content)
        try:
            with trio.fail_after(FORK_SECONDS):
                async with self._control_lock:
                    if passed is None:
                        await self._worker.stream.send_all(frame)
                        return
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.fileno().to_bytes(4, sys.byteorder))]
                    sent = await self._worker.stream.socket.sendmsg([frame], rights)
                    if sent < len(frame):
                        await self._worker.stream.send_all(frame[sent:])
        except trio.TooSlowError:
            self.end()
            raise ForkServerGone("it takes no commands") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise ForkServerGone(str(error) or "it has ended") from None

    async def _heard(self, event: trio.Event, seconds: float) -> bool:
        """True if the event came in time; otherwise the process is ended. Raises `ForkServerGone` if it ended first.

        Time during which the process was runnable but got no processor does not count: on a busy machine it is late but healthy,
        and ending it would cost every job that it serves. Endless computation is ended by its own timers.
        """
        queue = RunQueueDelay(self.pid)
        last = trio.current_time() + LONGEST_SECONDS
        left = seconds
        while left > 0:
            queue.begin()
            with trio.move_on_after(min(left, last - trio.current_time())):
                await event.wait()
                if self.is_gone:
                    raise ForkServerGone("it has ended")
                return True
            left = min(queue.seconds(), last - trio.current_time())
        self.end()
        return False
