"""What the service manager that started this process (systemd) is told, and the sockets that it hands over."""
