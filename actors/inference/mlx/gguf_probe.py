"""Lets MLX read a GGUF in a process that may die, before one reads it that must not.

`gguf_header.py` refuses what is known to harm the reader, which is native code and trusts its input; what nobody thought
of ends here as a sentence. Run as a program it reads the file that is its argument, and prints nothing.
"""

import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

from actors.inference.checkpoints.errors import ModelSourceMismatch

SECONDS_PER_GIGABYTE = 30.0
MINIMUM_SECONDS = 60.0


def probe_gguf(path: Path) -> None:
    """Raise `ModelSourceMismatch` where reading the file ends the process that reads it, or takes no end. Blocking."""
    seconds = MINIMUM_SECONDS + SECONDS_PER_GIGABYTE * path.stat().st_size / 1e9
    command = [sys.executable, "-m", "actors.inference.mlx.gguf_probe", str(path.resolve())]
    top = Path(__file__).resolve().parents[3]
    try:
        ended = subprocess.run(  # noqa: S603  our own program, no shell
            command, check=False, timeout=seconds, cwd=top,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ModelSourceMismatch(path=path, reason=f"MLX did not read it within {seconds:.0f} s") from error
    # A status above 0 is an error of Python, which the reading that follows says in its own words.
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise ModelSourceMismatch(path=path, reason=f"it ends MLX's reader by {name}, so something in it is damaged")


def main() -> None:
    """Read the file."""
    import mlx.core as mx

    arrays, _metadata = cast("tuple[dict[str, mx.array], object]", mx.load(sys.argv[1], return_metadata=True))
    mx.eval(list(arrays.values()))


if __name__ == "__main__":
    main()
