"""File format of backups: compressed JSON lines, with a final digest that detects truncation.

::

    {"leanvibe_backup": 1, "revision": "0009", "version": "0.1.0", "created_at": "…", "rows": {"tasks": 2}}
    {"file": "vapid.pem", "base64": "…"}         files of the data folder, none or several
    {"table": "tasks", "columns": ["id", …]}      then its rows, each an array in that order
    ["1f0c…", …]
    {"end": "<blake2b of all bytes before this line>"}

Rows do not depend on the kind of database, so that a backup of SQLite can be restored into PostgreSQL and vice versa.
Nothing in it is executed or unpickled.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from attrs import frozen

__all__ = ["BackupFile", "BackupHeader", "BackupUnusable", "BackupWriter", "FileEntry", "Row", "TableEntry"]

FORMAT = 1
MAXIMUM_LINE_BYTES = 64 * 2**20
"""Longer than any row that the server stores."""
MAXIMUM_FILE_BYTES = 2**20
"""Maximum size of a file of the data folder; keys have a few hundred bytes."""
_COMPRESSION = 6


class BackupUnusable(Exception):
    """The file is not a backup that this program can restore. The text says why."""


@frozen(kw_only=True)
class BackupHeader:
    """Header of a backup."""

    revision: str
    """Revision of the database's schema."""
    version: str
    """Version of the program that made it."""
    created_at: str
    """RFC 3339, UTC."""
    rows: Mapping[str, int]
    """Number of rows by table."""


@frozen
class FileEntry:
    """A file of the data folder."""

    name: str
    content: bytes


@frozen
class TableEntry:
    """Begins the rows of a table."""

    name: str
    columns: tuple[str, ...]


@frozen
class Row:
    """A row, in the order of its table's columns."""

    values: tuple[Any, ...]


class BackupWriter:
    """Writes the lines of a backup. Without a call of `end` the file counts as truncated."""

    def __init__(self, raw: IO[bytes], header: BackupHeader) -> None:
        # No time and no name in its head: the same content is the same file.
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0)
        self._digest = hashlib.blake2b(digest_size=32)
        self._write(
            {
                "leanvibe_backup": FORMAT,
                "revision": header.revision,
                "version": header.version,
                "created_at": header.created_at,
                "rows": dict(header.rows),
            }
        )

    def add_file(self, name: str, content: bytes) -> None:
        """Add a file of the data folder."""
        self._write({"file": name, "base64": base64.b64encode(content).decode()})

    def begin_table(self, name: str, columns: tuple[str, ...]) -> None:
        """Begin the rows of a table."""
        self._write({"table": name, "columns": columns})

    def add_row(self, values: tuple[Any, ...]) -> None:
        """Add a row of the table begun last."""
        self._write([_plain(one) for one in values])

    def end(self) -> None:
        """Write the digest and flush the compressor; ``raw`` stays open."""
        self._gzip.write(json.dumps({"end": self._digest.hexdigest()}).encode() + b"\n")
        self._gzip.close()

    def _write(self, line: Any) -> None:
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._digest.update(data)
        self._gzip.write(data)


class BackupFile:
    """A backup on disk, read line by line, because it may be far larger than memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> BackupHeader:
        """Read the whole file and return its header. Raises `BackupUnusable` if it is truncated or damaged.

        Raises `OSError` if the file cannot be read.
        """
        header: BackupHeader | None = None
        counts: dict[str, int] = {}
        table: TableEntry | None = None
        for entry in self.entries():
            if isinstance(entry, BackupHeader):
                header = entry
            elif isinstance(entry, TableEntry):
                if entry.name in counts:
                    raise BackupUnusable(f"{self._path} is damaged: it has the table {entry.name} twice")
                table = entry
                counts[entry.name] = 0
            elif isinstance(entry, Row):
                if table is None or len(entry.values) != len(table.columns):
                    raise BackupUnusable(f"{self._path} is damaged: a row does not fit its table")
                counts[table.name] += 1
        assert header is not None, "entries() begins with it"
        if counts != dict(header.rows):
            raise BackupUnusable(f"{self._path} is damaged: it does not have the rows that its first line names")
        return header

    def entries(self) -> Iterator[BackupHeader | FileEntry | TableEntry | Row]:
        """Yield the entries of the file, the header first. Raises `BackupUnusable` if it is damaged or truncated."""
        digest = hashlib.blake2b(digest_size=32)
        has_header = False
        try:
            with gzip.open(self._path, "rb") as lines:
                while line := lines.readline(MAXIMUM_LINE_BYTES + 1):
                    if len(line) > MAXIMUM_LINE_BYTES or not line.endswith(b"\n"):
                        raise BackupUnusable(f"{self._path} is damaged: a line has no end")
                    content = self._parsed(line)
                    if isinstance(content, dict) and "end" in content:
                        if content["end"] != digest.hexdigest() or not has_header or lines.read(1):
                            raise BackupUnusable(f"{self._path} is damaged: its content is not what was written")
                        return
                    digest.update(line)
                    if not has_header:
                        yield self._header(content)
                        has_header = True
                    else:
                        yield self._entry(content)
        except (gzip.BadGzipFile, zlib.error) as error:
            word = "is damaged" if has_header else "is not a backup of LeanVibe"
            raise BackupUnusable(f"{self._path} {word}: {error}") from error
        except EOFError:
            pass
        raise BackupUnusable(
            f"{self._path} is incomplete: it was truncated, or the program that wrote it was interrupted"
        )

    def _parsed(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BackupUnusable(f"{self._path} is damaged: a line is not JSON") from error

    def _header(self, content: Any) -> BackupHeader:
        if not isinstance(content, dict) or "leanvibe_backup" not in content:
            raise BackupUnusable(f"{self._path} is not a backup of LeanVibe")
        if content["leanvibe_backup"] != FORMAT:
            raise BackupUnusable(
                f"{self._path} has format {content['leanvibe_backup']!r}, and this program reads {FORMAT}; "
                "restore it with the version of LeanVibe that made it, or a newer one"
            )
        texts = [content.get(name) for name in ("revision", "version", "created_at")]
        rows = content.get("rows")
        if not all(isinstance(one, str) for one in texts) or not isinstance(rows, dict):
            raise BackupUnusable(f"{self._path} is damaged: its first line is incomplete")
        return BackupHeader(
            revision=content["revision"], version=content["version"], created_at=content["created_at"], rows=rows
        )

    def _entry(self, content: Any) -> FileEntry | TableEntry | Row:
        try:
            if isinstance(content, list):
                return Row(tuple(_restored(one) for one in content))
            if "file" in content:
                data = base64.b64decode(content["base64"], validate=True)
                if len(data) > MAXIMUM_FILE_BYTES:
                    raise ValueError("too large")
                return FileEntry(str(content["file"]), data)
            return TableEntry(str(content["table"]), tuple(str(one) for one in content["columns"]))
        except (TypeError, KeyError, ValueError, binascii.Error) as error:
            raise BackupUnusable(f"{self._path} is damaged: a line is neither a row nor a table") from error


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"], validate=True)
    if isinstance(value, list):
        raise TypeError("a cell is a number, a text, or nothing")
    return value
