"""Child spec of the access service."""

from __future__ import annotations

from actors.access.actor import Access, AccessSettings
from actors.networks import is_loopback
from actors.references import References
from actors.settings import Settings
from runtime import ChildSpec

__all__ = ["spec"]


def spec(settings: Settings, to: References, *, node: str | None = None) -> ChildSpec:
    """Child spec of the access actor."""
    of_access = AccessSettings(
        data_folder=settings.data_dir,
        allowed_hosts=frozenset(settings.allowed_hosts),
        allowed_origins=frozenset(settings.allowed_origins),
        is_loopback_only=is_loopback(settings.host),
        node=node,
    )
    return ChildSpec(id="access", start=lambda: Access(of_access, to.storage))
