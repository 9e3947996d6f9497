"""Child spec of the inspection service."""

from __future__ import annotations

from actors.inspection.actor import Inspector
from actors.inspection.server_file import ServerFile
from actors.settings import Settings
from runtime import ActorSystem, ChildSpec

__all__ = ["spec"]


def spec(system: ActorSystem, settings: Settings, about: ServerFile) -> ChildSpec:
    """Child spec of the actor through which scripts inspect and change the live tree."""
    return ChildSpec(id="inspection", start=lambda: Inspector(system, settings.data_dir, about), is_helper=True)
