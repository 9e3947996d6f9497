"""The Kanban board: rules, store and the actor behind REST and WebSocket."""
