"""How frames lie in a pipe between this program's processes: length, version, msgpack. Sans I/O.

Four bytes of length (big endian), one byte of version, then one msgpack value. Both ends refuse other versions and frames over
the bound, so neither can be made to allocate what a broken peer asks. What the value is belongs to whoever owns the pipe: the
worker's is in `worker_frames.py`; the sandbox's is an array ``[name, data]``, as `pack` and `FrameReader` have it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["FrameFault", "FrameReader", "TypedFrameReader", "enclose", "pack"]

VERSION = 1
MAXIMUM_BYTES = 16 * 1024 * 1024
"""A prompt of a million tokens fits; nothing sane is larger."""

_HEADER = struct.Struct(">IB")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[tuple[str, dict[str, Any]]] = msgspec.msgpack.Decoder(tuple[str, dict[str, Any]])

Frame = TypeVar("Frame")


class FrameFault(Exception):
    """The peer does not speak these frames."""


def enclose(body: bytes, name: str) -> bytes:
    """One frame as bytes. Raises `FrameFault`, with the frame's name, when it is over the bound."""
    if len(body) > MAXIMUM_BYTES:
        raise FrameFault(f"frame {name} has {len(body)} bytes, over {MAXIMUM_BYTES}")
    return _HEADER.pack(len(body), VERSION) + body


def pack(name: str, data: dict[str, Any]) -> bytes:
    """A frame ``[name, data]`` as bytes. Raises `FrameFault` when it is over the bound."""
    return enclose(_encoder.encode((name, data)), name)


class TypedFrameReader(Generic[Frame]):
    """Bytes in, frames out, for either end."""

    def __init__(self, decode: Callable[[bytes], Frame]) -> None:
        """``decode`` makes a frame of its bytes, and raises `msgspec.MsgspecError` for what is none."""
        self._decode = decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield each frame that is now complete. Raises `FrameFault`."""
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
    """Reads what `pack` makes."""

    def __init__(self) -> None:
        super().__init__(_decoder.decode)
