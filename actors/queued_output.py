"""Standard output and error that never block: a bounded queue and one thread that writes.

A paused pager, a terminal after Ctrl-S or a stuck log collector blocks `write` indefinitely. A server that blocks there is
dead to its clients, so its lines go into a queue. Lines that do not fit are counted, and the count is written once there is
space again.
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
"""Capacity of the queue; newer lines are dropped and counted."""
LINE_BYTES = 64 * 1024
"""Text without a line end is passed on in parts of this size."""
WRITE_BYTES = 64 * 1024
EXIT_SECONDS = 1.0
"""Time that the end of the process waits for a stalled reader."""

_outputs: list[QueuedOutput] = []


class QueuedOutput(io.BufferedIOBase):
    """A file object whose `write` never blocks; one daemon thread owns the descriptor.

    A non-blocking descriptor is first written to directly, so that a process about to crash in native code loses no output.
    Output that cannot be written (a closed pipe, a full disk) is dropped and counted.
    """

    def __init__(self, descriptor: int, *, maximum_bytes: int = QUEUE_BYTES) -> None:
        """``descriptor`` stays open when this object is closed."""
        self.dropped_lines = 0
        """Lines dropped since the process started."""
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
        """Return the descriptor, for child processes."""
        return self._descriptor

    def isatty(self) -> bool:
        """True on a terminal."""
        return self._is_terminal

    def write(self, data: Any, /) -> int:
        """Queue complete lines and buffer an incomplete one. Never blocks, never raises."""
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
        """Wait until everything is written, at most ``seconds``. Returns False if something is left."""
        with self._changed:
            if self._tail:
                tail, self._tail = self._tail, b""
                self._put(tail)
            return self._changed.wait_for(lambda: not self._queue, seconds)

    def close(self) -> None:
        """Let the thread end once everything is written, without waiting; the descriptor stays open."""
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
    """Open the null device for each standard stream that is closed (`2>&-`).

    Otherwise the next opened file gets its number, and a library's output would go into the database.
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
    """Make every write to standard output and error non-blocking and unable to raise.

    ``is_private``: no other process writes to these pipes, so they can be made non-blocking for native code too.
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
    """Flush the queue before the process ends, without waiting for a stalled reader."""
    for output in _outputs:
        output.drain(seconds)


def lines_dropped() -> int:
    """Return the number of lines dropped by this process."""
    return sum(output.dropped_lines for output in _outputs)
