"""Introspection of the live server over a Unix socket, used by `leanvibe inspect` and the scripts."""
