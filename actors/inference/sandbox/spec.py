"""Child spec of the sandbox."""

from __future__ import annotations

from pathlib import Path

from actors.inference.sandbox.actor import Sandbox
from actors.settings import Settings
from runtime import ChildSpec, SupervisorSpec

__all__ = ["spec"]


def spec(settings: Settings, checkpoint: Path | None, *, is_ephemeral: bool) -> ChildSpec:
    """One actor over expendable processes, which judge the input of clients and checkpoints.

    Restarts are unbounded: repeated failures are caused from outside, and back-off spaces the attempts.
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
