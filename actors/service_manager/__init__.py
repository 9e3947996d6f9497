"""Integration with the service manager (systemd): notifications, liveness and socket activation."""
