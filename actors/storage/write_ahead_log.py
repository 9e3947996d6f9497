"""Detects damage to SQLite's write-ahead log and index that SQLite itself does not notice.

The index is mapped into memory: if its file is truncated, the next read ends the process with SIGBUS. The header of the log is
not read again while the log is open, and after a crash a log with a wrong header counts as empty.
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
"""Two copies of the index header, and the checkpoint information (https://sqlite.org/walformat.html, 2.1)."""
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""Magic numbers by the byte order of the checksums (https://sqlite.org/fileformat2.html#walformat)."""
_BITS = 0xFFFFFFFF


class LogIndex:
    """Repairs the index of a database's log: a truncated one gets its length back and an empty header, so that SQLite rebuilds it.

    There is one for all connections of this process, see `index_of`. The truncated part comes back as zeros: an index that
    kept its header would claim that the log holds none of these pages. A writing transaction would restore that header, so
    nothing is repaired during one.
    """

    def __init__(self, database: Path) -> None:
        self._path = Path(f"{database}-shm")
        self._file: tuple[int, int] | None = None
        self._longest = 0
        self._writing = threading.RLock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wrap each writing transaction."""
        with self._writing:
            self.repair()
            yield
            self.repair()

    def repair(self) -> None:
        """Repair a truncated index; call before SQLite reads. Does nothing if that is impossible or there is no file. Never raises."""
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
        _log.warning("the index of the write-ahead log was truncated and is rebuilt")

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
    """Return the index of this database's log."""
    return _INDEXES.setdefault(database, LogIndex(database))


def head_problem(log: Path) -> str | None:
    """Return what is wrong with the header of a write-ahead log, or None if it is sound or not yet written."""
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
