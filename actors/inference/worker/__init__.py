"""The child process that owns the model: one pipe thread and one thread that owns MLX."""
