"""The modules that need MLX: models, loading, verification and conversion. Imported only by the worker and `leanvibe
model`."""
