"""SQLite's write-ahead log and its index, as far as SQLite itself does not notice what others did to them.

The index is mapped into memory: a file that is cut under it ends the process (SIGBUS) with the next read. The head of the log is
never read again while somebody has the log open, and after a crash a log with a wrong one counts as empty.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import structlog

__all__ = ["IndexLength", "head_problem"]

_log = structlog.get_logger("storage")

HEAD_BYTES = 32
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""By the byte order of its checksums (https://sqlite.org/fileformat2.html#walformat)."""
_BITS = 0xFFFFFFFF


class IndexLength:
    """Gives an index that was cut its length back: SQLite finds zeros there, and makes the index again out of the log."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}-shm")
        self._longest = 0

    def restore(self) -> None:
        """To be called before SQLite reads. Raises nothing: where it cannot be done, or there is no file, nothing is."""
        try:
            length = self._path.stat().st_size
            if length >= self._longest:
                self._longest = length
                return
            # By its path: closing a file of our own would let go of SQLite's locks on it.
            os.truncate(self._path, self._longest)
        except OSError:
            return
        _log.warning("the index of the write-ahead log was cut, and is made again", found_bytes=length)


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
