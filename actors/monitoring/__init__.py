"""Monitoring for operators over the WebSocket, collected once for all viewers and only while there are any."""
