"""WebSocket connections: a listener, and one actor per socket with its outbox and its single writer."""
