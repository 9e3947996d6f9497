"""The first worker process, started before most of the server is imported, so that both come up at once.

It stands by as a spare does: it imports what it needs and waits for the model that the first engine tells it to load.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from actors.inference.checkpoints.catalogue import find_checkpoint
from actors.inference.checkpoints.errors import ModelError
from actors.settings import Settings

if TYPE_CHECKING:
    from actors.inference.worker_process import InferenceWorker

__all__ = ["early_worker"]


@contextlib.contextmanager
def early_worker(settings: Settings, *, is_ephemeral: bool = False) -> Iterator[InferenceWorker | None]:
    """A worker that is on its way for the block; None where there is nothing to load yet. It ends with the block."""
    if not _has_model(settings):
        yield None
        return
    import trio

    from actors.inference.worker_config import WorkerConfig
    from actors.inference.worker_frames import PROTOCOL, WaitForModel
    from actors.inference.worker_process import InferenceWorker

    config = WorkerConfig.of(settings, is_ephemeral=is_ephemeral)

    async def start() -> InferenceWorker:
        worker = await InferenceWorker.start(config.command)
        with contextlib.suppress(trio.BrokenResourceError):  # the engine meets its end, and says so
            await worker.write(WaitForModel(PROTOCOL, config))
        return worker

    try:
        # A loop of its own: neither the process nor its pipe belongs to one.
        worker = trio.run(start)
    except OSError:
        yield None  # the engine meets the same, and says so
        return
    try:
        yield worker
    finally:
        trio.run(worker.end)


def _has_model(settings: Settings) -> bool:
    # Faults are planned for stages of a worker that starts with its model.
    if settings.engine != "mlx" or settings.worker_faults:
        return False
    try:
        return find_checkpoint(settings.model, settings.cache_dir).is_present
    except ModelError:
        return False
