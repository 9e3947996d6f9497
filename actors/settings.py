"""Settings of the server: defaults, then `leanvibe.toml`, then `LEANVIBE_…`, then the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import cattrs
import platformdirs
import typed_settings
from attrs import field, frozen, validators
from typed_settings.converters import get_default_cattrs_converter, register_strlist_hook

from protocol.events import AnswerDefaults
from protocol.validation import one_of

__all__ = ["Settings", "SettingsFault", "load_settings"]

CONFIG_NAME = "leanvibe.toml"


class SettingsFault(Exception):
    """A setting is invalid. The text names it and its source."""


def _port(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError(f"{attribute.name} must be between 0 and 65535, not {value}")


@frozen(kw_only=True)
class Settings:
    """All settings, by their names in the file; in the environment with `LEANVIBE_` and in upper case."""

    host: str = "127.0.0.1"
    """Address of both listeners."""
    port: int = field(default=8000, validator=_port)
    """Port of REST, and of the WebSocket at `/ws`; 0 picks a free one."""
    ws_port: int = field(default=8765, validator=_port)
    """A separate port for the WebSocket alone; 0 picks a free one."""
    data_dir: Path = field(factory=lambda: platformdirs.user_data_path("leanvibe"))
    """Folder of the lock, server.json and the database."""
    database: str | None = field(default=None, repr=False)
    """URL of a PostgreSQL database, such as `postgresql://user@host/name`; by default SQLite in the data folder."""
    broker: str | None = field(default=None, repr=False)
    """URL of a Redis or Valkey, version 7 or newer, as `rediss://user:password@host:6379`: this server is one node of several on one
    PostgreSQL database. By default it is the only one."""
    broker_ca: Path | None = None
    """Certificate authority trusted for the broker in addition to the system's, PEM."""
    cluster_key: Path | None = None
    """File of 32 random bytes, the same for every node: what passes through the broker is encrypted with it."""
    node: str | None = None
    """Name of this node, which no other node may have; by default the name of the machine."""
    cache_dir: Path = field(factory=lambda: platformdirs.user_cache_path("leanvibe"))
    """Folder of models and the prepared BLAS. It may be deleted at any time."""
    model: str = "embedded"
    """Name or folder of the model."""
    adapter: Path | None = None
    """Folder of a LoRA adapter for the initial model."""
    model_memory_mebibytes: int = field(default=0, validator=validators.ge(0))
    """Memory limit for the weights of all loaded models, MiB; 0 for the machine's free memory. If a second model does not fit
    alongside the first, the first is drained and unloaded before the second is loaded."""
    idle_unload_seconds: float = field(default=0.0, validator=validators.ge(0))
    """Idle time after which the model is unloaded, to be loaded again by the next request; 0 keeps it loaded. The same
    applies to the encoder, independently."""
    spare_worker: str = field(default="auto", validator=one_of("auto", "on", "off"))
    """Keep a standby worker process, with everything imported but no model, for faster recovery from a worker's death;
    `auto` is on for mlx. It takes about 200 MiB."""
    model_wheel: Path | None = None
    """Package of the embedded model as a file, for machines without a network."""
    encoder: str = field(default="auto", validator=one_of("auto", "on", "off"))
    """Encoder of `/v1/embeddings`, a separate process: `auto` downloads (84 MB, once) and loads it at the first request for
    embeddings, `on` at startup, `off` never."""
    encoder_wheel: Path | None = None
    """Package of the encoder as a file, for machines without a network."""
    engine: str = field(default="mlx", validator=one_of("mlx", "mock"))
    """`mlx` or `mock`."""
    blas: str = "auto"
    """`auto`, `mkl`, `openblas`, `system`, `shipped` or the path of a library; Linux CPUs only."""
    max_connections: int = field(default=1024, validator=validators.ge(1))
    """Maximum number of WebSocket connections."""
    max_http_connections: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    """Maximum number of HTTP connections, 512 by default. A further one replaces the oldest without a complete request. If the
    limit of open files (`ulimit -n`) allows fewer of both kinds, the server logs the numbers at startup."""
    connections_per_client: int = field(default=16, validator=validators.ge(1))
    """Maximum number of WebSocket connections per client id."""
    commands_in_flight: int = field(default=32, validator=validators.ge(1))
    """Maximum number of unanswered commands per connection."""
    streams_per_connection: int = field(default=128, validator=validators.ge(1))
    """Maximum number of streams that a connection follows."""
    commands_per_second: int = field(default=20, validator=validators.ge(1))
    """Sustained command rate per connection."""
    command_burst: int = field(default=60, validator=validators.ge(1))
    """Burst of commands per connection."""
    detach_seconds: int = field(default=60, validator=validators.ge(0))
    """Time that an answer with `on_disconnect: detach` keeps running without a subscriber."""
    max_entering: int = field(default=128, validator=validators.ge(1))
    """Maximum number of connections that have not sent hello. A further one replaces the oldest."""
    max_rows: int = field(default=32, validator=[validators.ge(1), validators.le(512)])
    """Maximum number of answers computed at the same time."""
    max_waiting: int = field(default=2048, validator=validators.ge(1))
    """Maximum number of queued requests."""
    kv_mebibytes: int = field(default=3072, validator=validators.ge(64))
    """Memory limit for the keys and values of running answers, MiB."""
    prefix_mebibytes: int = field(default=512, validator=validators.ge(0))
    """Size of the prefix cache, MiB; 0 turns it off."""
    drafts: bool = True
    """Speculative decoding from the prompt (n-gram), for an answer that decodes alone."""
    compiled: bool = True
    """Compute Phi-3 on a CPU with kernels compiled for this processor, the first time in the background; otherwise with MLX."""
    long_context: bool = False
    """Serve longrope models (Phi-3-128k, 3.5) at their full length, with the factors for long sequences at every length, as
    vLLM does. Text within the training length then differs from transformers'. If off, they are served up to that length."""
    default_max_tokens: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    """Maximum tokens of answers to requests that set none; by default 1,024, and at `/v1` the rest of the context."""
    answer_temperature: float = field(default=0.2, validator=[validators.ge(0), validators.le(5)])
    """Default temperature for people (`ask`, `chat`, the console, `/ai/process`)."""
    answer_top_p: float = field(default=0.9, validator=[validators.gt(0), validators.le(1)])
    """Default `top_p` for people."""
    answer_repetition_penalty: float = field(default=1.1, validator=[validators.ge(0.1), validators.le(10)])
    """Default repetition penalty for people; without one, small models fall into loops."""
    answer_max_tokens: int = field(default=400, validator=validators.ge(1))
    """Default maximum tokens for people."""
    allowed_hosts: list[str] = field(factory=list)
    """Host names accepted in addition to loopback ones; comma-separated in the environment."""
    allowed_origins: list[str] = field(factory=list)
    """Origins accepted in addition to loopback ones; comma-separated in the environment."""
    tls_certificate: Path | None = None
    """Certificate of both listeners, PEM, followed by its issuers'; without one they speak plain HTTP."""
    tls_key: Path | None = None
    """Key of the certificate, PEM, without a pass phrase; by default in the certificate's file."""
    ca: Path | None = None
    """Certificate authorities, PEM, that commands trust for remote servers; by default the system's."""
    drain_seconds: float = field(default=10.0, validator=validators.ge(0))
    """Time that running answers may continue after the server was asked to stop."""
    push_hold_seconds: float = field(default=10.0, validator=validators.ge(0))
    """Time that a push is held if a device of the same client acknowledged something as recently; 0 never holds."""
    push_longest_retry_seconds: float = field(default=3600.0, validator=validators.ge(1))
    """Longest wait between attempts of a failed push, which is retried after 2, 4, 8 … seconds, unless the service asks for more."""
    push_contact: str = "https://leanvibe.invalid"
    """`mailto:` or `https:` address of the operator, sent to push services; Apple's requires a real one."""
    push_allow_private: bool = False
    """Allow webhooks and push services on private addresses."""
    push_ca_file: Path | None = None
    """Certificate authority trusted for webhooks and push services in addition to the system's, PEM."""
    apns_key_file: Path | None = None
    """Apple's signing key (`AuthKey_….p8`); without it, nothing is pushed to Apple devices."""
    apns_key_id: str = ""
    """Id of that key."""
    apns_team_id: str = ""
    """Team id of the key's owner."""
    apns_topic: str = ""
    """Bundle id of the app."""
    apns_url: str | None = None
    """Overrides Apple's addresses."""
    log_level: str = field(default="info", validator=one_of("debug", "info", "warning", "error"))
    """Level of the log on standard error."""
    trace_endpoint: str | None = field(default=None, repr=False)
    """Where traces are sent: the address of an OpenTelemetry collector for OTLP over HTTP, as `http://127.0.0.1:4318`. By default
    `OTEL_EXPORTER_OTLP_ENDPOINT`; without either nothing is traced."""
    mock_step_seconds: float = field(default=0.0, validator=validators.ge(0))
    """Duration of a step of the mock engine."""
    worker_faults: str = ""
    """Fault plan for tests, JSON (see actors/inference/worker/fault_injection.py)."""

    def answer_defaults(self) -> AnswerDefaults:
        """Defaults of answers to people."""
        return AnswerDefaults(
            temperature=self.answer_temperature,
            top_p=self.answer_top_p,
            repetition_penalty=self.answer_repetition_penalty,
            max_tokens=self.answer_max_tokens,
        )


def load_settings(overrides: dict[str, Any], *, config: Path | None = None) -> Settings:
    """Load the settings from all sources. ``overrides`` are the options given on the command line.

    The file is ``config``, or `leanvibe.toml` in the current folder. Raises `SettingsFault`.
    """
    files = [config if config is not None else Path(CONFIG_NAME)]
    if config is not None and not config.is_file():
        raise SettingsFault(f"{config} does not exist")
    try:
        loaders = typed_settings.default_loaders("leanvibe", files)
        loaded = typed_settings.load_settings(Settings, loaders, converter=_converter())
        return attrs.evolve(loaded, **overrides)
    except typed_settings.exceptions.ConfigFileLoadError as error:
        raise SettingsFault(f"{files[0]} cannot be read: {error}") from error
    except Exception as error:
        raise SettingsFault(_readable(error)) from error


def _converter() -> cattrs.Converter:
    """Return the library's converter with another list separator: its `:` would split the origin `https://app.example`."""
    converter = get_default_cattrs_converter()
    register_strlist_hook(converter, fn=lambda text: [one.strip() for one in text.split(",") if one.strip()])
    return converter


def _readable(error: BaseException) -> str:
    """Return the innermost messages of an error of the settings library."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_readable(one) for one in error.exceptions)
    return str(error).replace("\n", " ")
