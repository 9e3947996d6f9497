"""Keeps a typed Ctrl-C off the screen while an answer is drawn there."""

from __future__ import annotations

import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_echo_of_control_keys"]

LOCAL_FLAGS = 3
"""Where `termios` keeps them in its list."""


@contextmanager
def no_echo_of_control_keys() -> Iterator[None]:
    """A terminal as standard input writes no `^C` for the key; letters it shows as ever. Nothing where it is no terminal.

    rich draws an answer's last line anew each time, filled up to the terminal's width, and counts on the cursor standing
    behind it. A `^C` written there moves the cursor into the next line, and the line stood on the screen twice.
    """
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    without = termios.tcgetattr(descriptor)
    without[LOCAL_FLAGS] &= ~termios.ECHOCTL
    termios.tcsetattr(descriptor, termios.TCSANOW, without)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
