"""Stored responses: answers that outlive their connection, their worker and the server."""
