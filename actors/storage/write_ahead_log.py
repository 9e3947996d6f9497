"""SQLite's write-ahead log and its index, as far as SQLite itself does not notice what others did to them.

The index is mapped into memory: a file that is cut under it ends the process (SIGBUS) with the next read. The head of the log is
never read again while somebody has the log open, and after a crash a log with a wrong one counts as empty.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

__all__ = ["LogIndex", "head_problem", "index_of"]

_log = structlog.get_logger("storage")

HEAD_BYTES = 32
INDEX_HEAD_BYTES = 136
"""Two copies of what the index is made for, and the places up to which it was read (https://sqlite.org/walformat.html, 2.1)."""
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""By the byte order of its checksums (https://sqlite.org/fileformat2.html#walformat)."""
_BITS = 0xFFFFFFFF


class LogIndex:
    """The index of one database's log: where it was cut it gets its length back and an empty head, so that SQLite makes it again.

    One for all connections of this process, see `index_of`. What was cut away comes back as zeros: an index that keeps its
    head would say of every page that the log does not have it. A transaction that writes would put that head back, so
    nothing is changed beside one.
    """

    def __init__(self, database: Path) -> None:
        self._path = Path(f"{database}-shm")
        self._file: tuple[int, int] | None = None
        self._longest = 0
        self._writing = threading.RLock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around each transaction that writes."""
        with self._writing:
            self.repair()
            yield
            self.repair()

    def repair(self) -> None:
        """To be called before SQLite reads. Raises nothing: where it cannot be done, or there is no file, nothing is."""
        if not self._was_cut():
            return
        with self._writing:
            # Another may have done it meanwhile.
            if not self._was_cut():
                return
            try:
                # Never closed: that would let go of SQLite's locks on the file (fcntl(2)).
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
                os.ftruncate(descriptor, self._longest)
                os.pwrite(descriptor, bytes(INDEX_HEAD_BYTES), 0)
            except OSError:
                return
        _log.warning("the index of the write-ahead log was cut, and is made again")

    def _was_cut(self) -> bool:
        try:
            found = self._path.stat()
        except OSError:
            return False
        file = found.st_dev, found.st_ino
        if file != self._file or found.st_size >= self._longest:
            self._file, self._longest = file, found.st_size
            return False
        return True


_INDEXES: dict[Path, LogIndex] = {}


def index_of(database: Path) -> LogIndex:
    """The index of this database's log."""
    return _INDEXES.setdefault(database, LogIndex(database))


def head_problem(log: Path) -> str | None:
    """What is wrong with the head of a write-ahead log; None where it is sound, or not written yet."""
    with log.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    order = _MAGIC.get(int.from_bytes(head[:4], "big"))
    if order is None or struct.unpack(">2I", head[24:]) != _checksum(head[:24], order):
        return "its head is damaged"
    return None


def _checksum(data: bytes, order: str) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _BITS
        second = (second + odd + first) & _BITS
    return first, second
