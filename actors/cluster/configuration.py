"""The cluster's configuration from the settings, checked without connecting."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from attrs import field, frozen
from sqlalchemy.engine import URL

from actors.networks import is_loopback
from actors.settings import Settings, SettingsFault

__all__ = ["BrokerAddress", "ClusterConfiguration", "cluster_configuration"]

KEY_BYTES = 32
DEFAULT_PORT = 6379
_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})
"""Values of libpq's `sslmode` without which a connection may be in the clear."""
_DATABASES = 16


@frozen(kw_only=True)
class BrokerAddress:
    """Address of the broker, and the node's credentials."""

    host: str
    port: int = DEFAULT_PORT
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False, eq=False)
    """None is in the clear, on this machine alone."""

    def __str__(self) -> str:
        """Without a password, for sentences."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'redis' if self.tls is None else 'rediss'}://{host}:{self.port}/{self.database}"


@frozen(kw_only=True)
class ClusterConfiguration:
    """A node of a cluster."""

    node: str
    broker: BrokerAddress
    key: bytes = field(repr=False)
    """Encrypts what passes through the broker; the same at every node."""


def cluster_configuration(
    settings: Settings, database: URL, environment: Mapping[str, str] = os.environ
) -> ClusterConfiguration | None:
    """Return this node's configuration, or None if the server is in no cluster.

    ``environment`` may name PostgreSQL's host, as libpq reads it. Raises `SettingsFault`, whose text never holds a URL.
    """
    if settings.broker is None:
        for name in ("broker_ca", "cluster_key", "node"):
            if getattr(settings, name) is not None:
                raise SettingsFault(f"`{name}` is set and `broker` is not; set `broker` to make this server a node")
        return None
    if database.get_backend_name() != "postgresql":
        raise SettingsFault(
            "`broker` makes this server one node of several, which share a database: "
            'set database = "postgresql://USER@HOST/NAME" to the same one at each'
        )
    _require_encryption(database, environment)
    broker = _broker_address(settings)
    if find_spec("coredis") is None:
        raise SettingsFault("`broker` needs its client: pip install 'leanvibe[cluster]'")
    return ClusterConfiguration(node=_node_name(settings.node), broker=broker, key=_key(settings))


def _require_encryption(database: URL, environment: Mapping[str, str]) -> None:
    """Raise `SettingsFault` for a database on another machine that may be spoken to in the clear."""
    hosts = str(database.query.get("host") or database.host or environment.get("PGHOST", ""))
    elsewhere = [one for one in hosts.split(",") if one and not one.startswith("/") and not is_loopback(one)]
    mode = database.query.get("sslmode") or environment.get("PGSSLMODE")
    if elsewhere and mode not in _ENCRYPTED:
        raise SettingsFault(
            f"the database is at {elsewhere[0]}, and nodes of a cluster connect to other machines only over TLS: "
            "add ?sslmode=verify-full to `database`"
        )


def _broker_address(settings: Settings) -> BrokerAddress:
    example = "for example rediss://USER:PASSWORD@HOST:6379"
    assert settings.broker is not None
    try:
        parts = urlsplit(settings.broker)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise SettingsFault(f"`broker` is no URL; {example}") from error
    if parts.scheme not in ("redis", "rediss"):
        raise SettingsFault(f"`broker` must begin with redis:// or rediss://; {example}")
    if not parts.hostname or parts.query or parts.fragment:
        raise SettingsFault(f"`broker` must name a host and have no options; {example}")
    number = parts.path.strip("/") or "0"
    if not (number.isascii() and number.isdigit() and int(number) < _DATABASES):
        raise SettingsFault(f"the path of `broker` must be a database number below {_DATABASES}; {example}")
    is_encrypted = parts.scheme == "rediss"
    if not is_encrypted and not is_loopback(parts.hostname):
        raise SettingsFault(
            f"`broker` is at {parts.hostname}, and nodes connect to other machines only over TLS: "
            "use rediss:// (`broker_ca` names your own certificate authority)"
        )
    if settings.broker_ca is not None and not is_encrypted:
        raise SettingsFault("`broker_ca` is set but `broker` begins with redis://; use rediss://")
    return BrokerAddress(
        host=parts.hostname,
        port=port,
        database=int(number),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=_tls(settings) if is_encrypted else None,
    )


def _tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.broker_ca is not None:
        try:
            context.load_verify_locations(settings.broker_ca)
        except OSError as error:
            raise SettingsFault(f"`broker_ca`, {settings.broker_ca}, contains no readable certificate") from error
    return context


def _key(settings: Settings) -> bytes:
    making = f"make one with `head -c {KEY_BYTES} /dev/urandom > cluster.key` and copy it to each node"
    if settings.cluster_key is None:
        raise SettingsFault(f"`broker` needs `cluster_key`, a file of {KEY_BYTES} random bytes; {making}")
    try:
        with settings.cluster_key.open("rb") as file:
            key = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise SettingsFault(
            f"`cluster_key`, {settings.cluster_key}, cannot be read: {error.strerror}; {making}"
        ) from error
    if len(key) != KEY_BYTES or len(set(key)) == 1:
        raise SettingsFault(f"`cluster_key`, {settings.cluster_key}, does not hold {KEY_BYTES} random bytes; {making}")
    return key


def _node_name(configured: str | None) -> str:
    name = (configured if configured is not None else socket.gethostname()).lower()
    if not _NODE.fullmatch(name):
        raise SettingsFault(
            f"{name[:64]!r} is not a valid node name: set `node` to 1 to 63 letters, digits, points and hyphens"
        )
    return name
