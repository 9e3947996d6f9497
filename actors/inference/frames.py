"""The frames between the engine actor and its worker process: length, version, msgpack.

Four bytes of length (big endian), one byte of version, then one msgpack array ``[name, data]``. Both ends
refuse other versions and frames over the bound, so neither can be made to allocate what a broken peer asks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["FrameFault", "FrameReader", "pack"]

VERSION = 1
MAXIMUM_BYTES = 16 * 1024 * 1024
"""A prompt of a million tokens fits; nothing sane is larger."""

_HEADER = struct.Struct(">IB")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[tuple[str, dict[str, Any]]] = msgspec.msgpack.Decoder(tuple[str, dict[str, Any]])


class FrameFault(Exception):
    """The peer does not speak these frames."""


def pack(name: str, data: dict[str, Any]) -> bytes:
    """One frame as bytes. Raises `FrameFault` when it is over the bound."""
    body = _encoder.encode((name, data))
    if len(body) > MAXIMUM_BYTES:
        raise FrameFault(f"frame {name} has {len(body)} bytes, over {MAXIMUM_BYTES}")
    return _HEADER.pack(len(body), VERSION) + body


class FrameReader:
    """Bytes in, frames out, for either end; sans I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
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
                name, content = _decoder.decode(bytes(self._buffer[_HEADER.size : end]))
            except msgspec.MsgspecError as error:
                raise FrameFault(f"not a frame: {error}") from error
            del self._buffer[:end]
            yield name, content
