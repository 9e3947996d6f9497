"""The watchdog's process: ends a server that was told to stop and does not. Run by `runtime.watchdog`, as a file.

It imports nothing but a few standard modules and shares no memory with the server, so it works while native code there holds
the interpreter's lock and when there is no memory left. Standard input is the pipe from the server: its end means that the
server has gone, the word `stop` that it goes down, and a stack that a signal has come.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import Final

# No runtime module: this file runs in an interpreter that finds none.
STACK_HEADER: Final = b"most recent call first"
"""In what faulthandler writes, once for each signal."""
STOP: Final = b"stop\n"
KEPT_BYTES: Final = 4096
SECOND_SIGNAL_SECONDS: Final = 2.0
"""After a second signal the server ends by itself at once, if it can."""
LOOK_SECONDS: Final = 1.0


def main() -> None:
    """Wait for the server's end or for its time to be over. Arguments: its process id, and seconds for a stop."""
    server, seconds = int(sys.argv[1]), float(sys.argv[2])
    deadline, signals, words = float("inf"), 0, b""
    while os.getppid() == server:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            _tell(
                f"leanvibe: process {server} did not end within {seconds:g} s of being told to; ended by force\n", words
            )
            # It is still our parent, so the number is still its own.
            if os.getppid() == server:
                os.kill(server, signal.SIGKILL)
            return
        if not select.select([0], [], [], min(LOOK_SECONDS, remaining))[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        deadline = min(deadline, time.monotonic() + seconds)
        words = (words + data)[-KEPT_BYTES:]
        signals += data.count(STACK_HEADER)
        if signals > 1:
            deadline = min(deadline, time.monotonic() + SECOND_SIGNAL_SECONDS)


def _tell(sentence: str, words: bytes) -> None:
    """Say why, unless nobody reads: what cannot be written at once is left."""
    text = sentence.encode() + words.replace(STOP, b"")
    if select.select([], [2], [], 0)[1]:
        # A pipe that can be written to takes this much without waiting.
        os.write(2, text[: select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512])


if __name__ == "__main__":
    main()
