"""The worker's end of its pipe: frames ``[name, data]`` of `frames.py`."""

from __future__ import annotations

import os
import queue
import socket
import threading
from typing import Any

from actors.inference.frames import FrameFault, FrameReader, pack

__all__ = ["Pipe"]

BATCHES_WAITING = 16
"""The server sends the next batch only after the previous one is answered."""
RECEIVE_BYTES = 65_536


class Pipe:
    """Reads in a thread, so that the end of the server is noticed during a batch and ends the process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._batches: queue.Queue[dict[str, Any]] = queue.Queue(BATCHES_WAITING)
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def send(self, name: str, data: dict[str, Any]) -> None:
        """Writes one frame; blocks while the server reads slowly."""
        try:
            self._connection.sendall(pack(name, data))
        except OSError:
            os._exit(0)  # the server is gone

    def receive(self) -> dict[str, Any]:
        """Waits for the next batch."""
        return self._batches.get()

    def _read(self) -> None:
        reader = FrameReader()
        while True:
            try:
                data = self._connection.recv(RECEIVE_BYTES)
                if not data:
                    os._exit(0)  # the server is gone: leave at once, so that no orphan holds the memory
                for _, batch in reader.feed(data):
                    self._batches.put(batch)
            except (OSError, FrameFault):
                os._exit(1)
