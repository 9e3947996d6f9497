"""Faults of the operating system for one actor: its tasks and threads cannot open, make, move or remove anything.

The interpreter's audit events stand at the border to the system, whatever library crosses it. A hook cannot be removed, so there is
one for the whole process, which does nothing while no fault is set.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from runtime.incarnation import current_incarnation

__all__ = ["ERRNO_NAMES", "system_fault"]

ERRNO_NAMES = ("ENOSPC", "EMFILE", "ENFILE", "EROFS", "EACCES", "ENOENT", "EIO", "ENOMEM")

_EVENTS = frozenset(
    {
        "open",
        "os.chmod",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.truncate",
        "os.posix_spawn",
        "socket.__new__",
        "socket.bind",
        "socket.connect",
        "subprocess.Popen",
        "tempfile.mkstemp",
        "sqlite3.connect",
    }
)


class _Fault:
    """The one that is set, and what it has hit."""

    def __init__(self) -> None:
        self.is_installed = False
        self.path = ""
        self.number = 0
        self.hit: list[str] = []

    def strike(self, event: str) -> None:
        life = current_incarnation.get() if self.path else None
        if life is None or life.record.path != self.path:
            return
        self.hit.append(event)
        if event == "sqlite3.connect":
            raise sqlite3.OperationalError("unable to open database file")
        raise OSError(self.number, os.strerror(self.number))

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.path or event not in _EVENTS:
            return
        if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith((".py", ".pyc")):
            return  # an import that happens to come now
        self.strike(event)

    def before(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """No event tells of these, or only one that comes when there is a descriptor already."""

        def struck(*arguments: Any, **named: Any) -> Any:
            self.strike(name)
            return function(*arguments, **named)

        return struck

    def install(self) -> None:
        if self.is_installed:
            return
        self.is_installed = True
        sys.addaudithook(self.hook)
        for owner, name in ((socket.socket, "_accept"), (socket.socket, "dup"), (socket, "socketpair"), (os, "pipe")):
            setattr(owner, name, self.before(name, getattr(owner, name)))


_fault = _Fault()


@contextmanager
def system_fault(path: str, number: int) -> Iterator[list[str]]:
    """Let everything that the actor at ``path`` asks of the system fail with this errno; yields what it was."""
    _fault.install()
    _fault.path, _fault.number, _fault.hit = path, number, []
    try:
        yield _fault.hit
    finally:
        _fault.path = ""
