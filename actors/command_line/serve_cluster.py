"""Checks of the cluster's settings before a node starts."""

from __future__ import annotations

from sqlalchemy.engine import URL

from actors.cluster.configuration import cluster_configuration
from actors.command_line.options import fail
from actors.settings import Settings, SettingsFault

__all__ = ["check_cluster"]


def check_cluster(settings: Settings, database: URL) -> None:
    """End the command with a sentence unless the settings make a node of a cluster, or of none, and its broker is fit."""
    try:
        configuration = cluster_configuration(settings, database)
        if configuration is not None:
            # Its client takes half a second to import, which a server on its own never does.
            from actors.cluster.broker_check import require_broker

            require_broker(configuration.broker)
    except SettingsFault as fault:
        fail(str(fault), status=2)
