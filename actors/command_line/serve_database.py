"""The database of a server that starts: held, brought up to date, and asked whether other machines may come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import URL

from actors.access.store import load_tokens
from actors.command_line.options import fail
from actors.command_line.printing import print_line
from actors.command_line.serve_cluster import checked_cluster, wait_for_name
from actors.networks import is_loopback
from actors.settings import Settings
from actors.storage.backup_before import keeping_backup
from actors.storage.database import database_url, open_engine
from actors.storage.errors import DatabaseUnusable
from actors.storage.holding import holder_name, holding_file
from actors.storage.read_only import open_for_reading, read_only_reason, reason_after_preparing
from actors.storage.schema import prepare_database

__all__ = ["prepared_database"]


@contextlib.contextmanager
def prepared_database(settings: Settings) -> Iterator[str | None]:
    """Hold it for the block where it lies elsewhere, and bring it up to date. Says why it can only be read, where it is so."""
    holder = holder_name(f"{settings.host}:{settings.port or 'a port of its own choice'}")
    with contextlib.ExitStack() as held:
        try:
            url = database_url(settings.database, settings.data_dir)
            of_cluster = checked_cluster(settings, url)
            node = None if of_cluster is None else of_cluster.node
            held.enter_context(holding_file(url, holder, is_guarded=settings.database is None))
            read_only = _prepare_database(url, holder, settings.data_dir, node)
            if node is not None:
                _wait_for_name(url, node)
        except DatabaseUnusable as error:
            fail(str(error))
        except OSError as error:
            fail(f"the database cannot be used: {error.strerror}")
        _look_into_database(settings, url, read_only)
        yield read_only


def _prepare_database(url: URL, holder: str, data_folder: Path, node: str | None) -> str | None:
    """Bring it up to date; where the system lets it be read alone, the reason for that, and a warning."""
    try:
        prepare_database(url, holder, node=node, keep=keeping_backup(url, data_folder))
        read_only = reason_after_preparing(url)
    except DatabaseUnusable as error:
        read_only = read_only_reason(url, error)
        if read_only is None:
            raise
    if read_only is not None:
        print_line(
            f"WARNING: {read_only}. The server starts, answers what is there, and refuses writes until that has changed.",
            style="yellow",
            err=True,
        )
    return read_only


def _look_into_database(settings: Settings, url: URL, read_only: str | None) -> None:
    """See in it whether other machines may come."""
    if is_loopback(settings.host):
        return
    engine = open_engine(url, writes=False) if read_only is None else open_for_reading(url, connections=1)
    try:
        with engine.connect() as connection:
            has_tokens = bool(load_tokens(connection, None))
    finally:
        engine.dispose()
    if not has_tokens:
        fail(
            f"{settings.host} is not a loopback address, and without tokens this server listens on no other; "
            "make one first: leanvibe token create --client NAME",
            status=2,
        )
    if settings.tls_certificate is None:
        print_line(
            f"WARNING: {settings.host} is reached from other machines without TLS: anyone in between can read every "
            "word and every token. Set tls_certificate and tls_key.",
            style="red",
            err=True,
        )


def _wait_for_name(url: URL, node: str) -> None:
    engine = open_engine(url, writes=False)
    try:
        wait_for_name(engine, node)
    finally:
        engine.dispose()
