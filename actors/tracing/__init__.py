"""Tracing: spans of requests, exported to an OpenTelemetry collector."""
