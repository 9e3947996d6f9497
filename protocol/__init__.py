"""The wire protocol, defined once. See docs/guides/websocket.md; `protocol.client` is the Python client."""

SUBPROTOCOL = "leanvibe.v1+json"
PATH = "/ws"

__all__ = ["PATH", "SUBPROTOCOL"]
