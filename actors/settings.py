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
    """A setting is wrong; the text names it and says where it came from."""


def _port(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError(f"{attribute.name} must be between 0 and 65535, not {value}")


@frozen(kw_only=True)
class Settings:
    """Every setting by its name in the file; `LEANVIBE_` and upper case in the environment."""

    host: str = "127.0.0.1"
    """Address of both listeners."""
    port: int = field(default=8000, validator=_port)
    """REST, and the WebSocket at `/ws`; 0 takes a free one."""
    ws_port: int = field(default=8765, validator=_port)
    """The WebSocket alone, for those who have it at a port of its own; 0 takes a free one."""
    data_dir: Path = field(factory=lambda: platformdirs.user_data_path("leanvibe"))
    """Lock, server.json and the database."""
    database: str | None = field(default=None, repr=False)
    """URL of a PostgreSQL database, as `postgresql://user@host/name`; by default SQLite in the data folder."""
    broker: str | None = field(default=None, repr=False)
    """URL of a Redis or Valkey, version 7 or newer, as `rediss://user:password@host:6379`: this server is one node of several on one
    PostgreSQL database. By default it is the only one."""
    broker_ca: Path | None = None
    """A certificate authority of the broker besides the usual ones, PEM."""
    cluster_key: Path | None = None
    """File of 32 random bytes, the same for every node: what passes through the broker is encrypted with it."""
    node: str | None = None
    """Name of this node, which no other node may have; by default the name of the machine."""
    cache_dir: Path = field(factory=lambda: platformdirs.user_cache_path("leanvibe"))
    """Models and the prepared BLAS; may be deleted at any time."""
    model: str = "embedded"
    """Name or folder of the model."""
    adapter: Path | None = None
    """Folder of a LoRA adapter that is put onto the model of the start."""
    model_memory_mebibytes: int = field(default=0, validator=validators.ge(0))
    """What the weights of all loaded models may take together, MiB; 0 goes by what the machine has free. Where a second
    model does not fit beside the first, the first is drained and ended before the second is loaded."""
    idle_unload_seconds: float = field(default=0.0, validator=validators.ge(0))
    """After so long without a request the model is unloaded, and loaded again by the next one; 0 keeps it loaded. So is the encoder,
    each by its own requests."""
    spare_worker: str = field(default="auto", validator=one_of("auto", "on", "off"))
    """Whether a second process stands by, with everything imported and no model, to go on sooner after a worker's death;
    `auto` is on for mlx. It holds some 200 MiB."""
    model_wheel: Path | None = None
    """The embedded model's package as a file, for machines without a network."""
    encoder: str = field(default="auto", validator=one_of("auto", "on", "off"))
    """The encoder of `/v1/embeddings`, in a process of its own: `auto` loads it by the first request for embeddings, and downloads it
    once for that (84 MB); `on` does so at the start; `off` has none."""
    encoder_wheel: Path | None = None
    """Its package as a file, for machines without a network."""
    engine: str = field(default="mlx", validator=one_of("mlx", "mock"))
    """`mlx` or `mock`."""
    blas: str = "auto"
    """`auto`, `mkl`, `openblas`, `system`, `shipped` or the path of a library; Linux CPUs only."""
    max_connections: int = field(default=1024, validator=validators.ge(1))
    """WebSocket connections at once."""
    max_http_connections: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    """HTTP connections at once, 512 by default; one more takes the place of the oldest that has no whole request. Where the limit of open
    files (`ulimit -n`) leaves room for fewer of both kinds, the server says at its start how many it takes."""
    connections_per_client: int = field(default=16, validator=validators.ge(1))
    """WebSocket connections at once of one client id."""
    commands_in_flight: int = field(default=32, validator=validators.ge(1))
    """Commands of one connection that may be without their answer."""
    streams_per_connection: int = field(default=128, validator=validators.ge(1))
    """Streams that one connection may follow."""
    commands_per_second: int = field(default=20, validator=validators.ge(1))
    """Of one connection, in the long run."""
    command_burst: int = field(default=60, validator=validators.ge(1))
    """Commands of one connection that may come at once."""
    detach_seconds: int = field(default=60, validator=validators.ge(0))
    """How long an answer with `on_disconnect: detach` runs on when nobody follows it."""
    max_entering: int = field(default=128, validator=validators.ge(1))
    """Of these, how many may not have said hello yet; one more takes the place of the oldest."""
    max_rows: int = field(default=32, validator=[validators.ge(1), validators.le(512)])
    """Answers computed side by side."""
    max_waiting: int = field(default=2048, validator=validators.ge(1))
    """Requests that may wait for a row."""
    kv_mebibytes: int = field(default=3072, validator=validators.ge(64))
    """Bound on keys and values of running answers, MiB."""
    prefix_mebibytes: int = field(default=512, validator=validators.ge(0))
    """What may be kept of finished answers for prompts that begin like them, MiB; 0 keeps nothing."""
    drafts: bool = True
    """An answer that is made alone may go on by several tokens in one step where it repeats what came before."""
    compiled: bool = True
    """On a CPU a Phi-3 is computed by code that is compiled for this processor, the first time beside the first answers; without it MLX does it."""
    long_context: bool = False
    """Serves models with longrope (Phi-3-128k, 3.5) to their full length, their factors for long sequences taken at every length,
    as vLLM does. Text up to the length they were trained at is then another than transformers'; without it they are served up
    to that length."""
    default_max_tokens: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    """Length of answers that name none, in tokens; by default 1,024, and at `/v1` what the context holds."""
    answer_temperature: float = field(default=0.2, validator=[validators.ge(0), validators.le(5)])
    """Temperature of answers to people who set none (`ask`, `chat`, pages, `/ai/process`)."""
    answer_top_p: float = field(default=0.9, validator=[validators.gt(0), validators.le(1)])
    """Their `top_p`."""
    answer_repetition_penalty: float = field(default=1.1, validator=[validators.ge(0.1), validators.le(10)])
    """Their repetition penalty; without one small models fall into loops."""
    answer_max_tokens: int = field(default=400, validator=validators.ge(1))
    """Their longest answer, in tokens."""
    allowed_hosts: list[str] = field(factory=list)
    """Host names, besides loopback ones, that requests may be addressed to; commas between them in the environment."""
    allowed_origins: list[str] = field(factory=list)
    """Origins, besides loopback ones, whose pages may connect; commas between them in the environment."""
    tls_certificate: Path | None = None
    """Certificate of both listeners, PEM, with its issuers' behind it; None speaks plain HTTP."""
    tls_key: Path | None = None
    """Its key, PEM, without a pass phrase; None where it lies in the certificate's file."""
    ca: Path | None = None
    """Certificates, PEM, whose holders commands believe at an address elsewhere; None those of the system."""
    drain_seconds: float = field(default=10.0, validator=validators.ge(0))
    """How long running answers may go on when the server is told to stop."""
    push_hold_seconds: float = field(default=10.0, validator=validators.ge(0))
    """A push waits this long when a device of the same client acknowledged something as recently; 0 never waits."""
    push_longest_retry_seconds: float = field(default=3600.0, validator=validators.ge(1))
    """A push that failed is tried again after 2, 4, 8 … seconds, and never later than this after its last try, unless
    the service asks for more time."""
    push_contact: str = "https://leanvibe.invalid"
    """`mailto:` or `https:` address of whoever runs this server, told to push services; Apple's wants a real one."""
    push_allow_private: bool = False
    """Webhooks and push services may be on private addresses."""
    push_ca_file: Path | None = None
    """A certificate authority of webhooks and push services besides the usual ones, PEM."""
    apns_key_file: Path | None = None
    """Apple's signing key (`AuthKey_….p8`); without it, devices of Apple are told nothing."""
    apns_key_id: str = ""
    """Name of that key."""
    apns_team_id: str = ""
    """Team that the key belongs to."""
    apns_topic: str = ""
    """Bundle id of the app."""
    apns_url: str | None = None
    """In place of Apple's addresses."""
    log_level: str = field(default="info", validator=one_of("debug", "info", "warning", "error"))
    """Of the log on standard error."""
    trace_endpoint: str | None = field(default=None, repr=False)
    """Where traces are sent: the address of an OpenTelemetry collector for OTLP over HTTP, as `http://127.0.0.1:4318`. By default
    `OTEL_EXPORTER_OTLP_ENDPOINT`; without either nothing is traced."""
    mock_step_seconds: float = field(default=0.0, validator=validators.ge(0))
    """What a step of the mock engine takes."""
    worker_faults: str = ""
    """A plan of faults for tests, as JSON (see actors/inference/worker/fault_injection.py)."""

    def answer_defaults(self) -> AnswerDefaults:
        """How people are answered who set nothing."""
        return AnswerDefaults(
            temperature=self.answer_temperature,
            top_p=self.answer_top_p,
            repetition_penalty=self.answer_repetition_penalty,
            max_tokens=self.answer_max_tokens,
        )


def load_settings(overrides: dict[str, Any], *, config: Path | None = None) -> Settings:
    """Settings from all sources; ``overrides`` are the command line's, without the options not given.

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
    """The library's, but for lists in the environment: at its `:` the origin `https://app.example` would break."""
    converter = get_default_cattrs_converter()
    register_strlist_hook(converter, fn=lambda text: [one.strip() for one in text.split(",") if one.strip()])
    return converter


def _readable(error: BaseException) -> str:
    """The innermost messages of whatever the settings library raised."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_readable(one) for one in error.exceptions)
    return str(error).replace("\n", " ")
