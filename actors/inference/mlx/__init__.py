"""What needs MLX: models, their loading, verification and conversion. Imported by the worker and `leanvibe model` alone."""
