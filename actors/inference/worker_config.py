"""What every worker process is told before its model: one value, which crosses the pipe as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    # The worker does without what reads settings.
    from actors.settings import Settings

__all__ = ["WorkerConfig"]

MEBIBYTE = 1024 * 1024


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a worker.

    A new one is two edits: a field of `Settings` and a field here by the same name. What uses it in the worker finds it here.
    """

    engine: Literal["mlx", "mock"]
    cache_dir: Path
    blas: str = "auto"
    prefix_bytes: int = 0
    """What it may hold of finished rows for prompts that begin like them."""
    drafts: bool = False
    """Whether it may guess what comes next from what a row has, and judge several tokens in one step."""
    long_context: bool = False
    """Whether a longrope model takes its long factors at every length, and is served to its full length."""
    compiled: bool = True
    """Whether a Phi-3 on a CPU is computed by compiled code."""
    compiles_beside: bool = False
    """Whether it does without compiled code that is not there yet, because another process makes that meanwhile."""
    grammars_at_need: bool = False
    """Whether it makes what holds answers to schemas no sooner than for the first such answer."""
    warms_up: bool = True
    """Whether it answers a little before it says that it is ready, so that the first request is as quick as all others, and
    is held to times that were measured."""
    is_memory_bounded: bool = False
    """Whether a setting bounds the weights, so that it does not ask what the system has free."""
    mock_step_seconds: float = 0.0
    worker_faults: str = ""
    """A fault plan for tests, as JSON."""

    @classmethod
    def of(cls, settings: Settings, *, is_ephemeral: bool = False) -> WorkerConfig:
        """Those of the server's settings that workers are told, and what follows from a server for one question alone. Raises `msgspec.ValidationError` for a field of another type."""
        same = {name: getattr(settings, name) for name in cls.__struct_fields__ if hasattr(settings, name)}
        other = {
            "prefix_bytes": settings.prefix_mebibytes * MEBIBYTE,
            "is_memory_bounded": settings.model_memory_mebibytes > 0,
            # A server for one question ends before what is made beside its answer was of use.
            "compiles_beside": settings.engine == "mlx" and settings.compiled and not is_ephemeral,
            "grammars_at_need": is_ephemeral,
            # The only answer waits for all that goes before it, and the canary has computed by then.
            "warms_up": not is_ephemeral,
        }
        return msgspec.convert(same | other, cls, dec_hook=_as_is)

    def command(self, pipe: int) -> list[str]:
        """The worker's command line, given the number of its end of the pipe. All else comes through that."""
        return [sys.executable, "-m", "actors.inference.worker", "--pipe", str(pipe)]


def _as_is(_kind: type, value: object) -> object:
    """Paths, which are paths already; msgspec checks that they are."""
    return value
