"""Terminal mode without echo and line editing, in which typed input waits unchanged for its reader."""

from __future__ import annotations

import termios
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_terminal"]

INPUT_FLAGS, LOCAL_FLAGS = 0, 3
"""Where `termios` keeps them in its list."""


@contextmanager
def quiet_terminal(descriptor: int) -> Iterator[None]:
    """Set the mode for the block and restore it afterwards."""
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[INPUT_FLAGS] &= ~(termios.ICRNL | termios.INLCR)
    # Lines that the terminal assembles end at 4,095 characters.
    quiet[LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
    # Ctrl-C ends the answer, and not what was typed meanwhile.
    quiet[LOCAL_FLAGS] |= termios.ISIG | termios.NOFLSH
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
