"""What a fuzzer sends: steps over one connection, made of a seed and a number and of nothing else."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

from attrs import frozen

__all__ = ["CUT", "END", "Input", "cut_in_pieces", "draw_for"]

END = "end"
"""Our half of the connection is ended; what comes is still read."""
CUT = "cut"
"""The connection is reset."""
Step = bytes | float | str
"""Bytes are sent, a number is a pause of so many seconds, a word is `END` or `CUT`."""


@frozen
class Input:
    """One connection's worth."""

    number: int
    kind: str
    steps: tuple[Step, ...]
    must_answer: bool = False
    """It is complete and well-formed as a message, so it is answered (by a refusal perhaps) before the deadline."""
    seconds: float = 30.0
    """For that: many times what any of them takes, on a machine that is busy with other things."""
    reads: bool = True
    """What comes is read; without it the reader stands still."""

    def save(self, folder: Path, seed: int, reason: str) -> Path:
        """Write it to a file that a person can read and a program can send again."""
        steps: list[Any] = [
            {"text": one.decode("latin-1"), "base64": base64.b64encode(one).decode()} if isinstance(one, bytes) else one
            for one in self.steps
        ]
        path = folder / f"{self.kind.split()[0].replace('/', '-')}-{seed}-{self.number}.json"
        content = {"reason": reason, "seed": seed, "number": self.number, "kind": self.kind, "steps": steps}
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return path


def draw_for(seed: int, number: int) -> random.Random:
    """The generator of one input: any of them can be made again without those before it."""
    return random.Random(f"{seed}/{number}")


def cut_in_pieces(draw: random.Random, data: bytes) -> tuple[Step, ...]:
    """The same bytes in a few writes, now and then with pauses between them."""
    if draw.random() < 0.6 or len(data) < 2:
        return (data,)
    at = sorted(draw.sample(range(1, len(data)), min(len(data) - 1, draw.choice((1, 2, 5)))))
    pieces: list[Step] = []
    for first, last in zip([0, *at], [*at, len(data)], strict=True):
        pieces.append(data[first:last])
        if draw.random() < 0.3:
            pieces.append(0.02)
    return tuple(pieces)
