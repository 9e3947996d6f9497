"""The Python client of the protocol, on Trio."""

from protocol.client.client import Client
from protocol.client.connecting import connect
from protocol.client.errors import CommandFailed, Disconnected, OutcomeUnknown, Refused
from protocol.client.reconnecting import Backoff, Change
from protocol.client.streams import Answer, ClientEvent, ClientEvents, Snapshot
from protocol.client.watching import OperatorView

__all__ = [
    "Answer",
    "Backoff",
    "Change",
    "Client",
    "ClientEvent",
    "ClientEvents",
    "CommandFailed",
    "Disconnected",
    "OperatorView",
    "OutcomeUnknown",
    "Refused",
    "Snapshot",
    "connect",
]
