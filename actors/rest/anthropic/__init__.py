"""Anthropic's Messages API over the one way to generate."""
