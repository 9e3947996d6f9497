"""What a command prints on, whose reader may leave before the end: `leanvibe ask … | head -1`."""

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
    """A descriptor; when its reader has left the command ends, in order and without a word.

    Python ignores SIGPIPE, rightly: it would also end the program for a server that closed its socket. So the error
    is told apart here, at the one place where it can only mean the reader; everywhere else it is an `OSError` like a
    server's that cannot be reached.
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
