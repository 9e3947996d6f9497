"""Settings passed to every worker process before its model, sent over the pipe as one value."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    # Workers do not import the settings module.
    from actors.settings import Settings

__all__ = ["WorkerConfig"]

MEBIBYTE = 1024 * 1024


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a worker.

    A new setting takes two edits: a field in `Settings`, and a field of the same name here.
    """

    engine: Literal["mlx", "mock"]
    cache_dir: Path
    blas: str = "auto"
    prefix_bytes: int = 0
    """Memory for keys and values of finished rows, reused by prompts with the same prefix."""
    drafts: bool = False
    """Enables drafting from a row's own tokens and verifying several tokens per step."""
    long_context: bool = False
    """Makes a longrope model use its long factors at every length, and serves its full length."""
    compiled: bool = True
    """Uses compiled kernels for Phi-3 on a CPU."""
    compiles_beside: bool = False
    """Starts without compiled kernels if there are none yet, because another process is compiling them."""
    grammars_at_need: bool = False
    """Delays the creation of grammars until the first answer that needs them."""
    warms_up: bool = True
    """Runs a short generation before reporting ready, so that the first request is as fast as later ones and its
    deadline is based on measurements."""
    is_memory_bounded: bool = False
    """True if a setting limits the weights, so that free memory is not checked."""
    mock_step_seconds: float = 0.0
    worker_faults: str = ""
    """Fault plan for tests, as JSON."""

    @classmethod
    def of(cls, settings: Settings, *, is_ephemeral: bool = False) -> WorkerConfig:
        """Derives a worker's settings from the server's; ``is_ephemeral`` for a server that answers a single question.

        Raises `msgspec.ValidationError` for a field of the wrong type.
        """
        same = {name: getattr(settings, name) for name in cls.__struct_fields__ if hasattr(settings, name)}
        other = {
            "prefix_bytes": settings.prefix_mebibytes * MEBIBYTE,
            "is_memory_bounded": settings.model_memory_mebibytes > 0,
            # An ephemeral server ends before kernels compiled in the background could be of use.
            "compiles_beside": settings.engine == "mlx" and settings.compiled and not is_ephemeral,
            "grammars_at_need": is_ephemeral,
            # Its only answer would wait for the warm-up, and the canary has already run a computation.
            "warms_up": not is_ephemeral,
        }
        return msgspec.convert(same | other, cls, dec_hook=_as_is)

    def command(self, pipe: int) -> list[str]:
        """The worker's command line; ``pipe`` is the file descriptor of its end of the pipe. Everything else is sent
        over that."""
        return [sys.executable, "-m", "actors.inference.worker", "--pipe", str(pipe)]


def _as_is(_kind: type, value: object) -> object:
    """Lets msgspec accept paths as they are; it checks the type."""
    return value
