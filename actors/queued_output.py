"""Standard output and error that never wait for their reader: a bounded queue and one thread that writes.

A pager that is paused, a terminal after Ctrl-S or a stuck log collector lets `write` wait without end. A server that waits
there is dead to its clients, so its lines go into a queue. What does not fit is counted, and the count is written once
there is room again.
"""

from __future__ import annotations

import atexit
import errno
import io
import json
import os
import select
import stat
import sys
import threading
import weakref
from collections import deque
from datetime import UTC, datetime
from typing import IO, Any

__all__ = ["QueuedOutput", "finish_output", "lines_dropped", "open_missing_descriptors", "queue_standard_output"]

QUEUE_BYTES = 1024 * 1024
"""Lines that may wait for the reader; newer ones are dropped and counted."""
LINE_BYTES = 64 * 1024
"""A text without an end of line is handed on in parts of this size."""
WRITE_BYTES = 64 * 1024
EXIT_SECONDS = 1.0
"""How long the end of the process waits for a reader that reads no more."""

_outputs: list[QueuedOutput] = []


class QueuedOutput(io.BufferedIOBase):
    """A descriptor whose `write` returns at once; one daemon thread owns the descriptor.

    A descriptor that does not block is first written to directly, so that a process which is about to crash in native
    code has said all it had to say. What cannot be written (a closed pipe, a full disk) is dropped and counted.
    """

    def __init__(self, descriptor: int, *, maximum_bytes: int = QUEUE_BYTES) -> None:
        """``descriptor`` stays open when this object ends."""
        self.dropped_lines = 0
        """Of the whole life of the process."""
        self._descriptor = descriptor
        self._maximum_bytes = maximum_bytes
        self._is_blocking = os.get_blocking(descriptor)
        self._is_terminal = os.isatty(descriptor)
        self._begin()
        self_or_none = weakref.ref(self)

        def begin_again() -> None:
            if (mine := self_or_none()) is not None:
                mine._begin()

        # A forked child has none of our threads, and its parent writes what was queued before.
        os.register_at_fork(after_in_child=begin_again)

    def _begin(self) -> None:
        # Reentrant: a finalizer may warn, that is write, at any allocation.
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[bytes] = deque()  # bounded: `maximum_bytes`
        self._queued_bytes = 0
        self._tail = b""
        self._untold_lines = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name=f"output-{self._descriptor}", daemon=True)
        self._thread.start()

    # --- the stream -------------------------------------------------------------------------------

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor, for child processes."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a person reads."""
        return self._is_terminal

    def write(self, data: Any, /) -> int:
        """Queue whole lines, and keep the beginning of one for its end. Never waits, never raises."""
        text = bytes(data)
        with self._changed:
            whole, newline, rest = (self._tail + text).rpartition(b"\n")
            self._tail = rest
            lines = whole + newline
            # Nobody waits for the end of what a person is asked on a terminal.
            if len(rest) > LINE_BYTES or (rest and self._is_terminal):
                lines, self._tail = lines + rest, b""
            if lines:
                self._put(lines)
        return len(text)

    def _put(self, lines: bytes) -> None:
        if not self._is_blocking and not self._queue:
            lines = lines[self._written_at_once(lines) :]
            if not lines:
                return
        if self._queued_bytes + len(lines) > self._maximum_bytes:
            self._drop(lines)
            return
        self._tell_of_dropped()
        self._append(lines)

    def _append(self, lines: bytes) -> None:
        self._queue.append(lines)
        self._queued_bytes += len(lines)
        self._changed.notify_all()

    def _drop(self, lines: bytes) -> None:
        count = max(1, lines.count(b"\n"))
        self.dropped_lines += count
        self._untold_lines += count

    def _tell_of_dropped(self) -> None:
        if self._untold_lines:
            notice = _notice(self._untold_lines, is_terminal=self._is_terminal)
            self._untold_lines = 0
            self._append(notice)

    def drain(self, seconds: float) -> bool:
        """Wait until all is written, ``seconds`` at most; for the end of the process. False when something is left."""
        with self._changed:
            if self._tail:
                tail, self._tail = self._tail, b""
                self._put(tail)
            return self._changed.wait_for(lambda: not self._queue, seconds)

    def close(self) -> None:
        """End the thread once all is written; does not wait for that, and leaves the descriptor open."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        super().close()

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        changed = self._changed
        while True:
            with changed:
                changed.wait_for(lambda: self._queue or self._is_over)
                if not self._queue:
                    return
                taken, size = 0, 0
                for one in self._queue:
                    if taken and size + len(one) > WRITE_BYTES:
                        break
                    taken, size = taken + 1, size + len(one)
                data = b"".join(self._queue[index] for index in range(taken))
            is_written = self._write_all(data)
            with changed:
                # They stay in the queue until here, so that `drain` sees them.
                for _ in range(taken):
                    self._queued_bytes -= len(self._queue.popleft())
                if not is_written:
                    self._drop(data)
                elif not self._queue:
                    self._tell_of_dropped()
                changed.notify_all()

    def _write_all(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                _wait_for_room(self._descriptor)
            except OSError:
                return False
        return True

    def _written_at_once(self, lines: bytes) -> int:
        try:
            return os.write(self._descriptor, lines)
        except BlockingIOError:
            return 0
        except OSError:
            self._drop(lines)
            return len(lines)


def _wait_for_room(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def _notice(lines: int, *, is_terminal: bool) -> bytes:
    event = f"{lines} lines of the log were dropped, because they were not read in time or could not be written"
    if is_terminal:
        return f"{event}\n".encode()
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {"event": event, "dropped_lines": lines, "logger": "output", "level": "warning", "timestamp": now}
    return json.dumps(line).encode() + b"\n"


def open_missing_descriptors() -> None:
    """Open the null device in place of a standard stream that this program was started without (`2>&-`).

    Otherwise the next file takes its number, and what a library prints goes into the database.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # The lowest free number is this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)


def queue_standard_output(*, is_private: bool = False) -> None:
    """Let no write to standard output or error wait from now on, whoever makes it, and none of them raise.

    ``is_private`` says that nobody else writes to the pipes that these are, so that they may be told not to block
    for native code either.
    """
    open_missing_descriptors()
    if is_private:
        for number in (1, 2):
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.set_blocking(number, False)
    sys.stdout, sys.stderr = _queued(1, sys.stdout), _queued(2, sys.stderr)


def _queued(descriptor: int, stream: IO[str] | None) -> Any:
    if stream is not None:
        if not isinstance(stream, io.TextIOWrapper):
            return stream  # somebody has put another in its place, as tests do
        stream.flush()
        descriptor = stream.fileno()
    output = QueuedOutput(descriptor)
    _outputs.append(output)
    if len(_outputs) == 1:
        atexit.register(finish_output)
    return io.TextIOWrapper(
        output,
        encoding="utf-8" if stream is None else stream.encoding,
        errors="backslashreplace" if stream is None else stream.errors,
        line_buffering=True,
    )


def finish_output(seconds: float = EXIT_SECONDS) -> None:
    """Before the process ends: wait for what is queued, but not for a reader that does not read."""
    for output in _outputs:
        output.drain(seconds)


def lines_dropped() -> int:
    """Lines of this process that could not be written in time."""
    return sum(output.dropped_lines for output in _outputs)
