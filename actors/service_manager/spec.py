"""The service manager's part of the tree."""

from __future__ import annotations

from actors.references import References
from actors.service_manager.actor import ServiceManager
from actors.service_manager.notify_socket import NotifySocket
from runtime import ChildSpec

__all__ = ["spec"]


def spec(manager: NotifySocket | None, to: References) -> tuple[ChildSpec, ...]:
    """One actor, which tells systemd when everything before it has started, and that it lives; none without a manager."""
    if manager is None:
        return ()
    return (ChildSpec(id="service_manager", start=lambda: ServiceManager(manager, to.inference), is_helper=True),)
