"""The watchdog's process: kills a server that fails to stop when asked. Run by `runtime.watchdog`, as a file.

It imports only a few standard modules and shares no memory with the server, so it works while native code there holds
the GIL and when there is no memory left. Standard input is the pipe from the server: its end means that the
server is gone, the word `stop` that it is shutting down, and a stack that a signal has arrived.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import Final

# No runtime import: the interpreter that runs this file would not find it.
STACK_HEADER: Final = b"most recent call first"
"""Part of faulthandler's output, once per signal."""
STOP: Final = b"stop\n"
KEPT_BYTES: Final = 4096
SECOND_SIGNAL_SECONDS: Final = 2.0
"""After a second signal the server ends itself at once, if it can."""
LOOK_SECONDS: Final = 1.0


def main() -> None:
    """Waits for the end of the server or of its time. Arguments: its process id, and seconds for a stop."""
    server, seconds = int(sys.argv[1]), float(sys.argv[2])
    deadline, signals, words = float("inf"), 0, b""
    while os.getppid() == server:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            _tell(
                f"leanvibe: process {server} did not end within {seconds:g} s of being told to; ended by force\n", words
            )
            # It is still the parent, so its process id has not been reused.
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
    """Writes the reason to stderr, without waiting for a reader: whatever cannot be written at once is dropped."""
    text = sentence.encode() + words.replace(STOP, b"")
    if select.select([], [2], [], 0)[1]:
        # A writable pipe takes this much without blocking.
        os.write(2, text[: select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512])


if __name__ == "__main__":
    main()
