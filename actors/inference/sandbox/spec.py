"""The sandbox's part of the tree."""

from __future__ import annotations

from pathlib import Path

from actors.inference.sandbox.actor import Sandbox
from actors.settings import Settings
from runtime import ChildSpec, SupervisorSpec

__all__ = ["spec"]


def spec(settings: Settings, checkpoint: Path | None, *, is_ephemeral: bool) -> ChildSpec:
    """One actor over processes that may die: what clients and checkpoints hand in is judged there.

    It has no bound on restarts: whatever keeps killing it comes from outside, and back-off spaces the attempts.
    """
    opens_first = None if settings.engine == "mock" or checkpoint is None else checkpoint.resolve()
    return ChildSpec(
        id="sandbox",
        start=SupervisorSpec(
            intensity=None,
            children=(
                ChildSpec(id="sandbox", start=lambda: Sandbox(opens_first=opens_first, grammars_at_need=is_ephemeral)),
            ),
        ),
    )
