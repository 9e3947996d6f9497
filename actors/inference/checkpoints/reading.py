"""Reads the small files of a checkpoint within limits, because its author is not trusted. No MLX.

The server process lists and checks every folder in the cache folder, so a file there must neither fill its memory nor
block its threads: only regular files are opened (a pipe would never end), sizes are limited before anything is read,
and nesting too deep for Python is reported as an error of the file.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from actors.inference.checkpoints.errors import ModelFileCorrupt, ModelFileMissing

MAXIMUM_JSON_BYTES = 8 * 1024 * 1024
"""Limit for a configuration, a manifest or an index. The index of the largest published models has about 4 MB."""
MAXIMUM_HEADER_BYTES = 16 * 1024 * 1024
"""Limit for the header of a safetensors file: 100 bytes for each of 160,000 tensors."""
MAXIMUM_TOKENIZER_BYTES = 128 * 1024 * 1024
"""Limit for `tokenizer.json`. The largest published ones have 35 MB."""
MAXIMUM_TEMPLATE_BYTES = 1024 * 1024
"""Limit for a chat template. The longest published ones have about 20 kB."""

_Read = TypeVar("_Read")


class UnreadableFile(ValueError):
    """The file exists but cannot be used; the text says why, as the end of a sentence that begins with its name."""


@contextmanager
def open_regular_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file for reading, following links. Blocking, but never waits for the writer of a named pipe.

    Raises `OSError` like `open`, and `UnreadableFile` for anything but a regular file.
    """
    # Opening a named pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Checked before a file object is made: that would fail for a folder, and leave the descriptor open.
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableFile("is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_regular_file(path: Path, maximum_bytes: int) -> bytes:
    """Reads a regular file, following links. Blocking.

    Raises `OSError` like `open`, and `UnreadableFile` if it is not a regular file or is larger than `maximum_bytes`.
    """
    with open_regular_file(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        content = b"" if size_bytes > maximum_bytes else file.read(maximum_bytes + 1)
    if content is None:
        # Files of the kernel may have no content yet.
        raise UnreadableFile("has no content that could be read now")
    if max(size_bytes, len(content)) > maximum_bytes:
        raise UnreadableFile(f"is larger than {maximum_bytes:,} bytes")
    return content


def read_text(path: Path, maximum_bytes: int) -> str:
    """Reads UTF-8 text, like `read_regular_file`."""
    try:
        return read_regular_file(path, maximum_bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile("is not UTF-8 text") from error


def read_json(path: Path, maximum_bytes: int = MAXIMUM_JSON_BYTES) -> Any:
    """Reads JSON. Raises `OSError` or `UnreadableFile`."""
    try:
        return json.loads(read_regular_file(path, maximum_bytes))
    except RecursionError as error:
        raise UnreadableFile("is nested too deeply") from error
    except UnreadableFile:
        raise
    except ValueError as error:
        raise UnreadableFile("is not JSON") from error


def read_json_object(path: Path, maximum_bytes: int = MAXIMUM_JSON_BYTES) -> dict[str, Any]:
    """Reads a JSON object. Raises `OSError` or `UnreadableFile`."""
    content = read_json(path, maximum_bytes)
    if not isinstance(content, dict):
        raise UnreadableFile("is not a JSON object")
    return content


def decode_json(content: bytes, kind: type[_Read]) -> _Read:
    """Decodes JSON of a known type, without building parts that the type does not name. Raises `UnreadableFile`.

    Takes a tenth of the time of `json`, which matters for millions of bytes read while other threads wait for the GIL.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UnreadableFile(f"does not have the expected form ({error})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableFile("is not JSON") from error


def read_checkpoint_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a checkpoint. Raises `ModelFileMissing`, or `ModelFileCorrupt` with the problem."""
    try:
        return read_json_object(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFileMissing(path=path) from error
    except UnreadableFile as error:
        raise ModelFileCorrupt(path=path, reason=str(error)) from error
    except OSError as error:
        raise ModelFileCorrupt(path=path, reason=f"cannot be read ({error.strerror})") from error
