"""Lets MLX read a GGUF in a disposable process before a process that must survive reads it.

`gguf_header.py` refuses files known to crash the reader, which is native code and trusts its input; crashes that nobody
anticipated become an error message here. Run as a program it reads the file in its argument and prints nothing.
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
    """Raises `ModelSourceMismatch` if reading the file crashes the process or takes too long. Blocking."""
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
    # A status above 0 is a Python exception, which reading the file in this process will raise again.
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise ModelSourceMismatch(path=path, reason=f"it ends MLX's reader by {name}, so something in it is damaged")


def main() -> None:
    """Reads the file."""
    import mlx.core as mx

    arrays, _metadata = cast("tuple[dict[str, mx.array], object]", mx.load(sys.argv[1], return_metadata=True))
    mx.eval(list(arrays.values()))


if __name__ == "__main__":
    main()
