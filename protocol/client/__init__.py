"""The Python client of the protocol, on Trio."""

from protocol.client.client import Answer, Client, CommandFailed, Disconnected, connect

__all__ = ["Answer", "Client", "CommandFailed", "Disconnected", "connect"]
