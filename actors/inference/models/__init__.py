"""Checkpoints: find, fetch, repack, verify and load. Importing this package imports no MLX."""
