"""The one writer on the database, its readers, each client's event log, and the relay that publishes it."""
