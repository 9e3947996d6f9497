"""Checkpoint files: finding, fetching, describing and checking them. Never imports MLX."""
