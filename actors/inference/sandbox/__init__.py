"""The sandbox: child processes that run what a client or a checkpoint chose, and that may be ended at any time."""
