"""Sandbox: child processes that run what a client or a checkpoint supplies, and that may be killed at any time."""
