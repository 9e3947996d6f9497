"""Child spec of the service manager's actor."""

from __future__ import annotations

from actors.references import References
from actors.service_manager.actor import ServiceManager
from actors.service_manager.notify_socket import NotifySocket
from runtime import ChildSpec

__all__ = ["spec"]


def spec(manager: NotifySocket | None, to: References) -> tuple[ChildSpec, ...]:
    """Child spec of the actor that notifies systemd of start and liveness; none without a manager."""
    if manager is None:
        return ()
    return (ChildSpec(id="service_manager", start=lambda: ServiceManager(manager, to.inference), is_helper=True),)
