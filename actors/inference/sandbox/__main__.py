"""The fork server of one model's text side: ``python -m actors.inference.sandbox --pipe FD``. Started only by the sandbox actor.

It reads the checkpoint once without running any of it, and forks a process for every job slot that the server requests: a few
milliseconds each, with shared memory. So it always answers, and only the processes that work on a client's input may die.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import select
import signal
import socket
from pathlib import Path
from typing import Any, NoReturn

from actors.inference.checkpoints.errors import reason_in_short
from actors.inference.frames import FrameFault, FrameReader, pack
from actors.inference.sandbox.jobs import memory_bound, serve_jobs, set_timers
from actors.inference.sandbox.limits import (
    LONGEST_SECONDS,
    OPEN_MEMORY_BYTES,
    OPEN_PROCESSOR_SECONDS,
    JobLimits,
)
from actors.inference.sandbox.memory_watch import WATCH_SECONDS, MemoryWatch
from actors.inference.text.text_model import CheckpointText, MockText
from actors.inference.text.token_text import NativePanic
from actors.startup import collect_rarely, resume_collections, without_collections

RECEIVE_BYTES = 65_536
MAXIMUM_FDS = 16


class ForkServer:
    """Runs in a single thread, because a fork copies only the thread that forks."""

    def __init__(self, control: socket.socket, memory: MemoryWatch | None = None) -> None:
        """``memory`` watches the job processes where the kernel enforces no limit."""
        self._control = control
        self._memory = memory
        self._reader = FrameReader()
        self._sockets: list[int] = []
        self._children: dict[int, int] = {}
        """Slot numbers by process id."""
        self._text: CheckpointText | MockText | None = None
        self._woken, waker = socket.socketpair()
        self._woken.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)

    def serve(self) -> NoReturn:
        """Serves commands until the server is gone."""
        while True:
            seconds = WATCH_SECONDS if self._memory else None
            readable, _, _ = select.select([self._control, self._woken], [], [], seconds)
            if self._memory:
                self._memory.end_large()
            if self._woken in readable:
                self._woken.recv(RECEIVE_BYTES)
                self._tell_ended()
            if self._control in readable:
                data, sockets, _, _ = socket.recv_fds(self._control, RECEIVE_BYTES, MAXIMUM_FDS)
                self._sockets.extend(sockets)
                if not data:
                    self._leave(0)
                for name, content in self._reader.feed(data):
                    self._take(name, content)

    def _take(self, name: str, content: dict[str, Any]) -> None:
        match name:
            case "open":
                self._open(content["folder"], content["processor_seconds"])
            case "load_grammars":
                self._load_grammars()
            case "fork":
                self._fork(content["slot"], JobLimits(**content["limits"]))
            case "kill":
                for pid, slot in self._children.items():
                    if slot == content["slot"]:
                        os.kill(pid, signal.SIGKILL)

    def _open(self, folder: str | None, processor_seconds: float) -> None:
        """Opens a checkpoint. Compiling a template computes its constants, so this is limited too, even if the server is gone."""
        set_timers(processor_seconds, LONGEST_SECONDS)
        try:
            with memory_bound(OPEN_MEMORY_BYTES), without_collections():
                text = self._text = MockText() if folder is None else CheckpointText(Path(folder))
            # Freeze the objects allocated so far; forked processes collect their own garbage as usual.
            resume_collections()
            self._send(
                "opened",
                {
                    "vocabulary_size": text.vocabulary_size,
                    "context_tokens": text.context_tokens,
                    "stop_token_ids": sorted(text.stop_token_ids),
                    "tool_call_format": text.tool_call_format.name,
                    "has_tools": text.has_tools,
                    "reasoning": text.reasoning.as_json(),
                    "decoding": text.decoding_json(),
                },
            )
        except MemoryError:
            self._send("open_failed", {"error": "reading its tokenizer and template takes too much memory"})
        except (OSError, ValueError, RecursionError, NativePanic, FrameFault) as error:
            self._send("open_failed", {"error": reason_in_short(error) or type(error).__name__})
        set_timers(0, 0)

    def _load_grammars(self) -> None:
        """Loads grammars for all processes forked from now on. If the library cannot read this tokenizer, each job reports it."""
        assert self._text is not None
        # Limited by processor time, like everything here: a busy machine must not decide that a tokenizer has no grammars.
        set_timers(OPEN_PROCESSOR_SECONDS, LONGEST_SECONDS)
        with contextlib.suppress(ValueError, MemoryError), memory_bound(OPEN_MEMORY_BYTES):
            self._text.load_grammars("")
        set_timers(0, 0)
        # Freeze the objects allocated so far, so that no collection touches them and copies their pages.
        gc.collect()
        gc.freeze()
        self._send("grammars_loaded", {})

    def _fork(self, slot: int, limits: JobLimits) -> None:
        connection = socket.socket(fileno=self._sockets.pop(0))
        try:
            pid = os.fork()
        except OSError as error:
            connection.close()
            self._send("fork_failed", {"slot": slot, "error": str(error)})
            return
        if pid == 0:
            try:
                self._become_slot(connection, limits)
            finally:
                os._exit(70)
        connection.close()
        self._children[pid] = slot
        if self._memory is not None:
            self._memory.began(pid, limits.memory_bytes)
        self._send("forked", {"slot": slot, "pid": pid})

    def _become_slot(self, connection: socket.socket, limits: JobLimits) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (self._control, self._woken, self._waker):
            one.close()
        for number in self._sockets:
            os.close(number)
        assert self._text is not None
        serve_jobs(connection, self._text, limits, is_watched=self._memory is not None)

    def _tell_ended(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            slot = self._children.pop(pid)
            if self._memory is not None:
                self._memory.ended(pid)
            self._send("ended", {"slot": slot, "status": os.waitstatus_to_exitcode(status)})

    def _send(self, name: str, content: dict[str, Any]) -> None:
        try:
            self._control.sendall(pack(name, content))
        except OSError:
            self._leave(0)

    def _leave(self, status: int) -> NoReturn:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        os._exit(status)


def main() -> None:
    """Serves the control socket named on the command line."""
    collect_rarely()
    parser = argparse.ArgumentParser(prog="leanvibe-sandbox")
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--watch-memory", action="store_true", help="for systems whose kernel holds no process to it")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = MemoryWatch() if options.watch_memory else None
    ForkServer(socket.socket(fileno=options.pipe), memory).serve()


if __name__ == "__main__":
    main()
