"""Storage: the database's single writer, its readers, the clients' event logs, and the relay that publishes them."""
