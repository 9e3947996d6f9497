"""What operators watch of the running server over the WebSocket, collected once for all of them and only while they look."""
