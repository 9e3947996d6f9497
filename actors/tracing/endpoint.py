"""Settings of the trace exporter, from our settings and OpenTelemetry's environment variables. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

from actors.settings import Settings, SettingsFault
from actors.version import VERSION

__all__ = ["ExportSettings", "export_settings"]

TRACES_PATH = "/v1/traces"
PROTOCOL = "http/protobuf"


@frozen(kw_only=True)
class ExportSettings:
    """A collector and the resource attributes sent to it."""

    url: str
    """Full URL, path included."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Sent with each request. May hold a secret."""
    resource: Mapping[str, str] = field(factory=dict)
    """Resource attributes of this process."""


def export_settings(settings: Settings, environment: Mapping[str, str]) -> ExportSettings | None:
    """Return the collector to send to, or None if no endpoint is set and tracing is off. Raises `SettingsFault`.

    Our setting takes precedence over the environment. As the OTLP exporter specification requires, a traces endpoint is used
    as it is, and `/v1/traces` is appended to a general one.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() == "none" and settings.trace_endpoint is None:
        return None
    url = settings.trace_endpoint or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    of_traces = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    if settings.trace_endpoint is None and of_traces:
        name, url = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", of_traces
    elif url:
        name = "OTEL_EXPORTER_OTLP_ENDPOINT" if settings.trace_endpoint is None else "trace_endpoint"
        url = url.rstrip("/") + TRACES_PATH
    else:
        return None
    _check_address(name, url)
    spoken = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if spoken and spoken.strip() != PROTOCOL:
        raise SettingsFault(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {spoken.strip()[:40]!r}; LeanVibe sends traces as {PROTOCOL}"
        )
    headers = _pairs("OTEL_EXPORTER_OTLP_HEADERS", environment)
    headers |= _pairs("OTEL_EXPORTER_OTLP_TRACES_HEADERS", environment)
    service = environment.get("OTEL_SERVICE_NAME", "").strip()
    return ExportSettings(
        url=url,
        headers={one.lower(): value for one, value in headers.items()},
        resource={
            "service.name": "leanvibe",
            "service.version": VERSION,
            "service.instance.id": str(uuid.uuid4()),
            **_pairs("OTEL_RESOURCE_ATTRIBUTES", environment),
            **({"service.name": service} if service else {}),
        },
    )


def _check_address(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or not url.isascii() or any(one.isspace() for one in url):
        raise SettingsFault(
            f"{name} must be a URL as http://127.0.0.1:4318, the address of a collector for OTLP over HTTP"
        )


def _pairs(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Parse `name=value,name=value` with percent-encoded values."""
    found: dict[str, str] = {}
    for part in environment.get(name, "").split(","):
        key, equals, value = part.strip().partition("=")
        if not part.strip():
            continue
        key, value = key.strip(), unquote(value.strip())
        if not equals or not key or not key.isascii() or not (key + value).isprintable():
            raise SettingsFault(f"{name} must be as name=value,name=value")
        found[key] = value
    return found
