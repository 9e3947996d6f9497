"""`leanvibe serve` that also records the arrival times of the worker's frames: `timed_server.py FILE serve …`.

At its end FILE holds, as JSON, each row's name with one time (nanoseconds, monotonic) for each of its tokens.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from actors.command_line import main as command_line
from actors.inference.engine import Engine

__all__ = ["PROGRAM"]

PROGRAM = Path(__file__).resolve()


def main() -> None:
    """Note the times and serve."""
    path = Path(sys.argv.pop(1))
    times: dict[str, list[int]] = {}
    take_frame = Engine._take_frame

    async def noting(self: Engine, name: str, content: dict[str, Any]) -> None:
        if name == "step":
            now = time.monotonic_ns()
            for row, *_ in content["emitted"]:
                times.setdefault(str(row), []).append(now)
        await take_frame(self, name, content)

    Engine._take_frame = noting  # type: ignore[method-assign]
    try:
        command_line.main()
    finally:
        path.write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main()
