"""Coding intents, prompts and conversation memory."""
