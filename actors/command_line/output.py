"""Standard output whose reader may leave early: `leanvibe ask … | head -1`."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import IO, Any

__all__ = ["OUTPUT_CLOSED", "end_when_nobody_reads"]

OUTPUT_CLOSED = 128 + signal.SIGPIPE
"""Status of a command whose reader has left: what a shell makes of the signal that ends programs in C then."""


class _EndingOutput(io.FileIO):
    """A descriptor; when its reader has left, the command ends cleanly and silently.

    Python rightly ignores SIGPIPE, which would also end the program when a server closes its socket. So the error is
    handled here, the one place where it can only mean the reader; elsewhere it is an `OSError` like that of an unreachable
    server.
    """

    def write(self, data: Any, /) -> Any:
        try:
            return super().write(data)
        except BrokenPipeError:
            # What is still written on the way out, by the interpreter at last, goes nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            raise SystemExit(OUTPUT_CLOSED) from None


def end_when_nobody_reads() -> None:
    """Let this process end with `OUTPUT_CLOSED` once it writes to a standard output or error that nobody reads."""
    sys.stdout, sys.stderr = _on(_EndingOutput, sys.stdout), _on(_EndingOutput, sys.stderr)


def _on(kind: type[io.FileIO], stream: IO[str] | None) -> Any:
    # A program may be started without one.
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
