"""The REST API and health checks, on quart-trio and hypercorn. Routes are thin: they turn a request into a message."""
