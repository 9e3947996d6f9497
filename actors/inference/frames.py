"""Frame format of the pipes between this program's processes: length, version, msgpack. Sans I/O.

Four bytes of length (big endian), one byte of version, then one msgpack value. Both ends refuse other versions and
oversized frames, so a broken peer cannot make either allocate arbitrary amounts. The type of the value is up to the
pipe's owner: the worker's is in `worker_frames.py`; the sandbox's is an array ``[name, data]``, as in `pack` and
`FrameReader`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["FrameFault", "FrameReader", "TypedFrameReader", "enclose", "pack"]

VERSION = 1
MAXIMUM_BYTES = 16 * 1024 * 1024
"""Fits a prompt of a million tokens; no legitimate frame is larger."""

_HEADER = struct.Struct(">IB")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[tuple[str, dict[str, Any]]] = msgspec.msgpack.Decoder(tuple[str, dict[str, Any]])

Frame = TypeVar("Frame")


class FrameFault(Exception):
    """The peer sent something that is not a valid frame."""


def enclose(body: bytes, name: str) -> bytes:
    """Adds the header to a frame's body. Raises `FrameFault`, naming the frame, if it is too large."""
    if len(body) > MAXIMUM_BYTES:
        raise FrameFault(f"frame {name} has {len(body)} bytes, over {MAXIMUM_BYTES}")
    return _HEADER.pack(len(body), VERSION) + body


def pack(name: str, data: dict[str, Any]) -> bytes:
    """Encodes a frame ``[name, data]``. Raises `FrameFault` if it is too large."""
    return enclose(_encoder.encode((name, data)), name)


class TypedFrameReader(Generic[Frame]):
    """Incremental decoder of frames, for either end of a pipe."""

    def __init__(self, decode: Callable[[bytes], Frame]) -> None:
        """``decode`` turns bytes into a frame and raises `msgspec.MsgspecError` if they are not one."""
        self._decode = decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yields each complete frame. Raises `FrameFault`."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            length, version = _HEADER.unpack_from(self._buffer)
            if version != VERSION:
                raise FrameFault(f"frame version {version}, expected {VERSION}")
            if length > MAXIMUM_BYTES:
                raise FrameFault(f"frame of {length} bytes, over {MAXIMUM_BYTES}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            try:
                frame = self._decode(bytes(self._buffer[_HEADER.size : end]))
            except msgspec.MsgspecError as error:
                raise FrameFault(f"not a frame: {error}") from error
            del self._buffer[:end]
            yield frame


class FrameReader(TypedFrameReader[tuple[str, dict[str, Any]]]):
    """Reads frames made by `pack`."""

    def __init__(self) -> None:
        super().__init__(_decoder.decode)
