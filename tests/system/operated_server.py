"""A real server with a disk, log, descriptors and clock of its own, and the troubles that an operator can cause it.

Each trouble is a context manager: entering causes it, and leaving ends it, whatever happened in between.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import trio
from attrs import define, field, frozen

import protocol
from tests.system.restarting_server import free_port
from tests.system.serving_process import COMMAND, REPOSITORY, environment

__all__ = ["TROUBLES", "OperatedServer", "Trouble", "UnexpectedEnd", "faketime_library", "operated_server"]

POLL_SECONDS = 0.05
START_SECONDS = 60.0
STOP_SECONDS = 30.0
CLOCK_SECONDS = 1.0
"""How often libfaketime reads the clock's offset."""
ONLY_THE_SERVER = """import os, select, time
# Its processes have no clock of their own, and libfaketime's clock_nanosleep refuses absolute times of a clock that it leaves alone.
for name in ("LD_PRELOAD", "PYTHONPATH"):
    os.environ.pop(name, None)
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
FILLED_AT_ONCE = 1024 * 1024
LOG_LINE_ROOM = 65536


class UnexpectedEnd(Exception):
    """A server did not start or end as it should."""


def faketime_library() -> Path | None:
    """Return Debian's libfaketime if installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class _LogReader:
    """Copies a server's log from a pipe into a file, and pauses on demand."""

    def __init__(self, pipe: int, to: Path) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._pipe, self._to = pipe, to
        threading.Thread(target=self._read, name="log reader", daemon=True).start()

    def _read(self) -> None:
        with os.fdopen(self._pipe, "rb", buffering=0) as pipe, self._to.open("ab") as file:
            while self.goes_on.wait() and (some := pipe.read(LOG_LINE_ROOM)):
                file.write(some)


@define(eq=False)
class OperatedServer:
    """A server process and its successors with the same folder and address."""

    disk: Path
    """Holds the data folder and nothing else that is needed."""
    beside: Path
    """Holds the rest: log, cache, clock."""
    engine: str
    has_own_disk: bool
    ports: tuple[int, int] = field(factory=lambda: (free_port(), free_port()))
    process: subprocess.Popen[bytes] | None = None
    is_away: bool = False
    """The server is ending or not back yet, so every connection ends."""
    _log: _LogReader | None = None

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.disk / "data"

    @property
    def log(self) -> Path:
        """Output of all its processes."""
        return self.beside / "log"

    @property
    def clock(self) -> Path:
        """File with the offset of its clock."""
        return self.beside / "clock"

    @property
    def websocket_url(self) -> str:
        """Its WebSocket URL, now or later."""
        return f"ws://127.0.0.1:{self.ports[1]}{protocol.PATH}"

    @property
    def rest_url(self) -> str:
        """Its REST URL, now or later."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def _environment(self) -> dict[str, str]:
        found = environment(
            self.data,
            LEANVIBE_CACHE_DIR=str(self.beside / "cache"),
            LEANVIBE_COMMANDS_PER_SECOND="100000",
            LEANVIBE_COMMAND_BURST="100000",
            LEANVIBE_MOCK_STEP_SECONDS="0.005",
            LEANVIBE_DRAIN_SECONDS="2",
            LEANVIBE_LOG_LEVEL="debug",
        )
        if self.engine != "mock":
            # Folder of the prepared model.
            del found["LEANVIBE_CACHE_DIR"]
        library = faketime_library()
        if library is not None:
            found |= {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                "FAKETIME_CACHE_DURATION": f"{CLOCK_SECONDS:.0f}",
                # Setting the clock leaves monotonic time alone.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
                "PYTHONPATH": str(self.beside),
            }
        return found

    async def start(self) -> None:
        """Start it and wait until it answers, which it does even on a full disk."""
        rest, websocket = (str(port) for port in self.ports)
        reading, writing = os.pipe()
        words = ["serve", "--engine", self.engine, "--port", rest, "--ws-port", websocket]
        try:
            self.process = subprocess.Popen(  # noqa: ASYNC220  it starts at once
                [*COMMAND, *words],
                env=self._environment(),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        self._log = _LogReader(reading, self.log)
        async with httpx.AsyncClient(base_url=self.rest_url, trust_env=False, timeout=5) as http:
            with trio.fail_after(START_SECONDS):
                while True:
                    if self.process.poll() is not None:
                        raise UnexpectedEnd(
                            f"the server ended with status {self.process.returncode}: {self.last_words()}"
                        )
                    with suppress(httpx.HTTPError):
                        if (await http.get("/health/live")).status_code == 200:
                            break
                    await trio.sleep(POLL_SECONDS)
        self.is_away = False

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_bytes()[-2000:].decode(errors="replace") if self.log.exists() else ""

    async def end(self, number: signal.Signals) -> int:
        """End it with this signal. Returns its exit status."""
        assert self.process is not None
        self.is_away = True
        self.process.send_signal(number)
        try:
            status = await trio.to_thread.run_sync(self.process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise UnexpectedEnd(f"the server did not end within {STOP_SECONDS:g} s after {number.name}") from None
        else:
            return status
        finally:
            _remove_clock_of(self.process.pid)

    def set_clock(self, seconds: float) -> None:
        """Set the offset of its wall clock."""
        self.clock.write_text(f"{seconds:+.0f}\n")

    def pause_log(self) -> Callable[[], None]:
        """Stop reading its log. Returns a function that resumes."""
        assert self._log is not None
        self._log.goes_on.clear()
        return self._log.goes_on.set

    async def worker_pid(self) -> int | None:
        """Return the worker's process id, or None."""
        with suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
            async with httpx.AsyncClient(base_url=self.rest_url, trust_env=False, timeout=5) as http:
                found = (await http.get("/health")).json()["engine"]["worker_pid"]
                return int(found)
        return None


def _remove_clock_of(pid: int) -> None:
    """Remove the files that libfaketime leaves of a killed process."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)


@contextmanager
def _own_disk(mebibytes: int, at: Path) -> Iterator[bool]:
    """Mount a file system of its own, as root on Linux. Yields False elsewhere."""
    if os.geteuid() != 0 or shutil.which("mount") is None or not Path("/proc/mounts").exists():
        yield False
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "leanvibe-soak", str(at)], check=True)
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@asynccontextmanager
async def operated_server(folder: Path, *, engine: str, disk_mebibytes: int) -> AsyncIterator[OperatedServer]:
    """Run a server. It and its disk are removed at the end."""
    disk, beside = folder / "disk", folder / "beside"
    disk.mkdir()
    beside.mkdir()
    (beside / "sitecustomize.py").write_text(ONLY_THE_SERVER, encoding="utf-8")
    with _own_disk(disk_mebibytes, disk) as has_own_disk:
        server = OperatedServer(disk, beside, engine, has_own_disk)
        server.set_clock(0)
        try:
            await server.start()
            yield server
        finally:
            if server.process is not None and server.process.poll() is None:
                server.process.kill()
                server.process.wait()
                _remove_clock_of(server.process.pid)


# --- troubles -----------------------------------------------------------------------------------------

Doing = Callable[[OperatedServer, random.Random], AbstractAsyncContextManager[None]]


@frozen(kw_only=True)
class Trouble:
    """A trouble that can befall a server."""

    name: str
    does: Doing
    seconds: tuple[float, float] = (1.0, 2.5)
    """Shortest and longest duration."""
    reads_go_on: bool = False
    """It concerns the disk, so reads are answered meanwhile."""
    needs_own_disk: bool = False
    needs_faketime: bool = False


@asynccontextmanager
async def _full_disk(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
    filler = server.disk / "filler"
    try:
        await trio.to_thread.run_sync(_fill, filler)
        yield
    finally:
        filler.unlink(missing_ok=True)


def _fill(filler: Path) -> None:
    for size in (FILLED_AT_ONCE, 4096):
        with suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * size)


def _remount(server: OperatedServer, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(server.disk)], check=True)


@asynccontextmanager
async def _read_only_disk(server: OperatedServer, draw: random.Random) -> AsyncIterator[None]:
    """As after a boot that found an error: no file may be open for writing when a disk becomes read-only."""
    await server.end(draw.choice([signal.SIGTERM, signal.SIGKILL]))
    try:
        _remount(server, "ro")
        await server.start()
        yield
    finally:
        _remount(server, "rw")
        with trio.CancelScope(shield=True):
            await _start_if_away(server)


async def _start_if_away(server: OperatedServer) -> None:
    if server.process is None or server.process.poll() is not None:
        await server.start()


def _lowest_free_descriptor(pid: int) -> int:
    """Return the lowest free descriptor: as a limit it lets nothing be opened."""
    taken = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in range(len(taken) + 1) if number not in taken)


@asynccontextmanager
async def _no_descriptors(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
    assert server.process is not None
    pid = server.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_lowest_free_descriptor(pid), hard))
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def _stopped_log_reader(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
    go_on = server.pause_log()
    try:
        yield
    finally:
        go_on()


@asynccontextmanager
async def _moved_folder(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
    elsewhere = server.disk / "elsewhere"
    server.data.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(server.data)


def _clock_jump(direction: int) -> Doing:
    @asynccontextmanager
    async def jump(server: OperatedServer, draw: random.Random) -> AsyncIterator[None]:
        server.set_clock(direction * draw.choice([90, 3600, 86_400, 3 * 86_400]))
        try:
            yield
        finally:
            server.set_clock(0)

    return jump


@asynccontextmanager
async def _killed_worker(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
    if (pid := await server.worker_pid()) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


@asynccontextmanager
async def _stopped_worker(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
    pid = await server.worker_pid()
    try:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        if pid is not None:
            # Usually the server has ended it by then.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def _stopped_server(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def _ended_server(number: signal.Signals) -> Doing:
    @asynccontextmanager
    async def end(server: OperatedServer, _: random.Random) -> AsyncIterator[None]:
        try:
            status = await server.end(number)
            if number == signal.SIGTERM and status != 0:
                raise UnexpectedEnd(f"the server that was told to end did so with status {status}")
            yield
        finally:
            with trio.CancelScope(shield=True):
                await _start_if_away(server)

    return end


TROUBLES: tuple[Trouble, ...] = (
    Trouble(name="full disk", does=_full_disk, reads_go_on=True, needs_own_disk=True),
    Trouble(name="read-only disk", does=_read_only_disk, reads_go_on=True, needs_own_disk=True),
    Trouble(name="moved folder", does=_moved_folder, reads_go_on=True),
    Trouble(name="no descriptors", does=_no_descriptors),
    Trouble(name="stopped log reader", does=_stopped_log_reader),
    Trouble(name="clock ahead", does=_clock_jump(1), seconds=(2.0, 3.0), needs_faketime=True),
    Trouble(name="clock behind", does=_clock_jump(-1), seconds=(2.0, 3.0), needs_faketime=True),
    Trouble(name="killed worker", does=_killed_worker, seconds=(0.2, 1.0)),
    Trouble(name="stopped worker", does=_stopped_worker),
    Trouble(name="stopped server", does=_stopped_server),
    Trouble(name="server told to end", does=_ended_server(signal.SIGTERM), seconds=(0.0, 0.5)),
    Trouble(name="killed server", does=_ended_server(signal.SIGKILL), seconds=(0.0, 0.5)),
)
