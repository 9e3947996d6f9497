"""Reads GGUF files as `leanvibe model convert` does, in a process that may die: one line of JSON for each path of standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from actors.inference.checkpoints.errors import ModelError
from actors.inference.mlx.convert import Options, convert


def main() -> None:
    """Until standard input ends."""
    for line in sys.stdin:
        path = Path(line.strip())
        try:
            convert(path, path.with_name("converted"), Options(), lambda *_: None)
            outcome = "converted"
        except ModelError as error:
            outcome = f"refused, {type(error).__name__}"
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
