"""The single owner of the model: admission, streaming, restart. Other rooms import `messages` only."""
