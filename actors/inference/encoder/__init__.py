"""Embeddings: one encoder in a process of its own, the queue before it, and the proof that it is the right one."""
