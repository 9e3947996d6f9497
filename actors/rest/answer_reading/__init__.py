"""Reads an answer's text: what the model thought, what it says, and what it wants called."""
