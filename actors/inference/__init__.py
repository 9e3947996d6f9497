"""Owns the model: admission, streaming and restarts. Other services import `messages` only."""
