"""The cluster service's part of the tree."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from actors.cluster.announcer import Announcer
from actors.cluster.carrier import Carrier
from actors.cluster.configuration import ClusterConfiguration
from actors.cluster.hearer import Hearer
from actors.cluster.log_watch import LogWatch
from actors.cluster.membership import Membership, MembershipSettings
from actors.references import References
from runtime import ChildSpec, SupervisorSpec

__all__ = ["spec"]


def spec(
    configuration: ClusterConfiguration | None, to: References, *, version: str, model: str, address: str
) -> tuple[ChildSpec, ...]:
    """The node's lease, what it announces and what it hears; nothing on a server of its own."""
    if configuration is None:
        return ()
    # Its client takes half a second to import, which a server on its own never does.
    from actors.cluster.redis_carrier import open_redis_carrier

    def open_carrier() -> AbstractAsyncContextManager[Carrier]:
        return open_redis_carrier(configuration)

    of_node = MembershipSettings(node=configuration.node, version=version, model=model, address=address)
    return (
        ChildSpec(
            id="cluster",
            start=SupervisorSpec(
                children=(
                    ChildSpec(id="membership", start=lambda: Membership(of_node, to.storage)),
                    ChildSpec(id="announcer", start=lambda: Announcer(open_carrier), is_helper=True),
                    ChildSpec(
                        id="hearer",
                        start=lambda: Hearer(configuration.node, open_carrier, to.connection_registry),
                        is_helper=True,
                    ),
                    ChildSpec(id="log_watch", start=lambda: LogWatch(to.storage, to.connection_registry)),
                ),
                # Without its carrier a node works on, and finds everything in the database, some seconds later.
                intensity=None,
            ),
        ),
    )
