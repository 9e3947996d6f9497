"""Checks of the cluster's settings before a node starts."""

from __future__ import annotations

import time

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from actors.cluster.configuration import ClusterConfiguration, cluster_configuration
from actors.cluster.store import list_nodes
from actors.command_line.options import fail
from actors.command_line.printing import print_line
from actors.settings import Settings, SettingsFault
from actors.storage.ownership import LEASE_MILLISECONDS

__all__ = ["checked_cluster", "wait_for_name"]

LOOK_SECONDS = 0.5


def checked_cluster(settings: Settings, database: URL) -> ClusterConfiguration | None:
    """Return this node's configuration, or None of a server of its own.

    Ends the command with a sentence where the settings are wrong or the broker cannot carry a cluster.
    """
    try:
        configuration = cluster_configuration(settings, database)
        if configuration is not None:
            # Its client takes half a second to import, which a server on its own never does.
            from actors.cluster.broker_check import require_broker

            require_broker(configuration.broker)
    except SettingsFault as fault:
        fail(str(fault), status=2)
    return configuration


def wait_for_name(engine: Engine, node: str) -> None:
    """Wait until the lease of a server that was killed under this name is over; end the command if it is renewed."""
    youngest: int | None = None
    while True:
        with engine.connect() as connection:
            found = [one for one in list_nodes(connection, None) if one.node == node and one.state == "alive"]
        if not found:
            return
        if youngest is not None and found[0].age_ms < youngest:
            fail(
                f"another server is the node {node!r}: the one at {found[0].address}; give this one another name with the "
                "setting `node`",
                status=2,
            )
        if youngest is None:
            print_line(
                f"the node {node!r} was active {found[0].age_ms / 1000:.0f} s ago; waiting until its lease "
                f"expires, at most {LEASE_MILLISECONDS // 1000} s",
                err=True,
            )
        youngest = found[0].age_ms
        # Nothing else runs yet: there is no event loop before the lease is free.
        time.sleep(LOOK_SECONDS)
