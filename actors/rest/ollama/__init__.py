"""Ollama's API over the one way to generate."""
