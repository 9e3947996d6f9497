"""Embeddings: one encoder in a process of its own, with its request queue and the verification of its weights."""
