"""The Python client of the protocol, on Trio."""

from protocol.client.client import Change, Client, connect
from protocol.client.errors import CommandFailed, Disconnected
from protocol.client.reconnecting import Backoff
from protocol.client.streams import Answer, ClientEvent, ClientEvents, Snapshot

__all__ = [
    "Answer",
    "Backoff",
    "Change",
    "Client",
    "ClientEvent",
    "ClientEvents",
    "CommandFailed",
    "Disconnected",
    "Snapshot",
    "connect",
]
