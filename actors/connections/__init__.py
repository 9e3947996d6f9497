"""WebSocket connections: a listener, and one actor per socket with its send queue and its single writer."""
