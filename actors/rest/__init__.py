"""REST and health over quart-trio and hypercorn: thin routes that turn a request into a message."""
