"""The Kanban board: rules, storage, and the actor behind REST and WebSocket."""
