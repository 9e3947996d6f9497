"""Checks of `leanvibe doctor`. Each is read-only and reports its finding with advice.

No check raises: anything that cannot be examined is itself a finding.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy
from attrs import frozen
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from actors.descriptor_limit import ConnectionBudget, budget_for, raise_descriptor_limit
from actors.inference.checkpoints.catalogue import find_checkpoint
from actors.inference.checkpoints.errors import ModelError
from actors.inference.checkpoints.inventory import inventory
from actors.inspection.server_file import (
    SERVER_FILE,
    DataFolderUnsafe,
    check_data_folder,
    is_locked,
    read_server_file,
)
from actors.settings import Settings
from actors.storage.database import database_url, open_engine
from actors.storage.errors import DatabaseUnusable
from actors.storage.holding import holder_of
from actors.storage.schema import NEWEST_REVISION, known_revisions, schema_problem, stored_revision

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "findings"]

OK, WARNING, PROBLEM = "ok", "warning", "problem"
PYTHON = ((3, 11), (3, 13))
"""Oldest and newest version that everything was tested with."""
LITTLE_DISK_BYTES = 2**30
NO_DISK_BYTES = 64 * 2**20
LITTLE_MEMORY_KIB = 2 * 2**20
CLOCK_TOLERANCE_MS = 60_000
EPOCH_OF_THIS_PROGRAM = 1_767_225_600
"""2026-01-01 in POSIX seconds: a clock before it was never set."""


@frozen
class Finding:
    """The result of a check, with advice if something is wrong."""

    check: str
    state: str
    """`ok`, `warning` (it works, worse than it could) or `problem`."""
    said: str
    advice: str = ""


def findings(settings: Settings) -> Iterator[Finding]:
    """Run all checks, in the order in which to fix what they find."""
    for check in _CHECKS:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            yield from check(settings)
        except Exception as error:  # noqa: BLE001  isolation boundary: one check that fails must not hide the others
            yield Finding(name, PROBLEM, f"could not be checked: {type(error).__name__}: {error}")


def _python(_: Settings) -> Iterator[Finding]:
    said = f"Python {platform.python_version()}"
    if PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]:
        yield Finding("python", OK, said)
    else:
        oldest, newest = (".".join(map(str, one)) for one in PYTHON)
        yield Finding("python", PROBLEM, f"{said} is not supported", f"use Python {oldest} to {newest}")


def _processor(_: Settings) -> Iterator[Finding]:
    machine = platform.machine()
    if sys.platform == "linux":
        for package, slower in (("scipy_openblas32", "the BLAS that MLX ships"), ("numba", "MLX instead of kernels")):
            if importlib.util.find_spec(package) is None:
                yield Finding(
                    "processor", WARNING, f"the package {package} is missing: {slower} is slower", "reinstall"
                )
    if machine == "x86_64" and sys.platform == "linux":
        flags = _file("/proc/cpuinfo").partition("flags")[2].partition("\n")[0].split()
        if flags and "avx2" not in flags:
            yield Finding(
                "processor",
                WARNING,
                "this processor has no AVX2: answers take several times as long",
                "use a smaller model",
            )
            return
    yield Finding(
        "processor",
        OK,
        f"{machine}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores",
    )


def _memory(_: Settings) -> Iterator[Finding]:
    found = _file("/proc/meminfo").partition("MemAvailable:")[2].split()
    if not found:
        return
    free_kib = int(found[0])
    said = f"{free_kib // 1024} MiB free"
    if free_kib < LITTLE_MEMORY_KIB:
        yield Finding("memory", WARNING, said, "close other programs, or choose a smaller model")
    else:
        yield Finding("memory", OK, said)


def _clock(_: Settings) -> Iterator[Finding]:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < EPOCH_OF_THIS_PROGRAM:
        yield Finding("clock", PROBLEM, f"it shows {now}, before this program was made", "set it, or enable NTP")
    else:
        yield Finding("clock", OK, now)


def _folders(settings: Settings) -> Iterator[Finding]:
    for name, folder in (("data folder", settings.data_dir), ("cache folder", settings.cache_dir)):
        option = "--data-dir" if name == "data folder" else "LEANVIBE_CACHE_DIR"
        there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
        if not there.is_dir():
            yield Finding(name, PROBLEM, f"{there} is a file", f"move it away, or name another folder ({option})")
            continue
        if not os.access(there, os.W_OK | os.X_OK):
            yield Finding(name, PROBLEM, f"{there} cannot be written", f"chown or chmod it, or name another ({option})")
            continue
        if there == folder.absolute() and name == "data folder":
            try:
                check_data_folder(folder)
            except DataFolderUnsafe as error:
                yield Finding(name, PROBLEM, str(error))
                continue
        disk = os.statvfs(there)
        free = disk.f_bavail * disk.f_frsize
        said = f"{folder}, {free // 2**20} MiB free"
        if free < NO_DISK_BYTES or disk.f_flag & os.ST_RDONLY:
            why = "its disk is mounted read-only" if disk.f_flag & os.ST_RDONLY else said
            yield Finding(name, PROBLEM, why, "make room; until then the server reads and refuses writes")
        elif free < LITTLE_DISK_BYTES:
            yield Finding(name, WARNING, said, "make room")
        else:
            yield Finding(name, OK, said)


def _server(settings: Settings) -> Iterator[Finding]:
    server = read_server_file(settings.data_dir)
    if server is not None:
        yield Finding("server", OK, f"process {server.pid} serves {server.rest_url}; `leanvibe status` says how it is")
    elif is_locked(settings.data_dir):
        yield Finding(
            "server", WARNING, "a process holds the data folder and has not said where it listens",
            "it is starting or stopping; if that goes on, end the process whose id is in DATA/lock",
        )  # fmt: skip
    elif (settings.data_dir / SERVER_FILE).exists():
        yield Finding("server", OK, "none runs; the last one was killed, which harms nothing")
    else:
        yield Finding("server", OK, "none runs")


def _ports(settings: Settings) -> Iterator[Finding]:
    if read_server_file(settings.data_dir) is not None:
        return
    for option, port in (("--port", settings.port), ("--ws-port", settings.ws_port)):
        host = settings.host.strip("[]")
        with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    said, advice = f"{port} on {host} is in use by another program", f"choose another with {option}"
                else:
                    said, advice = (
                        f"{port} on {host}: {error.strerror}",
                        f"choose another with {option}, or another --host",
                    )
                yield Finding("port", PROBLEM, said, advice)
            else:
                yield Finding("port", OK, f"{port} on {host} is free")


def _descriptors(settings: Settings) -> Iterator[Finding]:
    wanted = ConnectionBudget(websocket=settings.max_connections, http=settings.max_http_connections or 512)
    limit = raise_descriptor_limit()
    budget = budget_for(limit, wanted)
    if budget == wanted:
        yield Finding("open files", OK, f"{limit} may be open at once")
    else:
        said = (
            f"{limit} may be open at once, enough for {budget.websocket} WebSocket and {budget.http} HTTP connections"
        )
        yield Finding("open files", WARNING, said, "raise the hard limit (ulimit -n)")


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        url = database_url(settings.database, settings.data_dir)
    except DatabaseUnusable as error:
        yield Finding("database", PROBLEM, str(error))
        return
    shown = url.set(query={}).render_as_string()
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        yield Finding("database", OK, f"{shown} is made at the first start")
        return
    try:
        yield from _inside_database(settings, url, shown)
    except (sqlalchemy.exc.SQLAlchemyError, DatabaseUnusable) as error:
        said = " ".join(str(error.__cause__ or error).split())
        is_file = url.get_backend_name() == "sqlite"
        advice = (
            "stop the server, move the file away and put a backup back (`leanvibe restore FILE`), or a copy NAME.before-REVISION"
            if is_file
            else "check that PostgreSQL runs there, and that the setting `database` is correct"
        )
        yield Finding("database", PROBLEM, f"{shown} cannot be used: {said}", advice)


def _inside_database(settings: Settings, url: URL, shown: str) -> Iterator[Finding]:
    engine = open_engine(url, writes=False, must_exist=True)
    try:
        with engine.connect() as connection, connection.begin():
            revision = stored_revision(connection)
            if not revision:
                yield Finding("database", OK, f"{shown} is empty; tables are made at the next start")
                return
            if url.get_backend_name() == "sqlite":
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                if found != "ok":
                    raise DatabaseUnusable(f"it is damaged: {found}")
            yield _state_of_schema(connection, revision, shown)
            # The nodes of a cluster use one database together.
            if url.get_backend_name() == "postgresql" and settings.broker is None:
                yield from _other_server(connection, settings.data_dir, shown)
            newest = connection.execute(text("SELECT max(time_ms) FROM events")).scalar()
            if newest is not None and newest > time.time() * 1000 + CLOCK_TOLERANCE_MS:
                ahead = round(newest / 1000 - time.time())
                yield Finding(
                    "clock", WARNING, f"the newest event was stored {ahead} s in the future of this clock",
                    "the clock was set back, or is wrong now; the server goes on either way",
                )  # fmt: skip
    finally:
        engine.dispose()


def _other_server(connection: Connection, data_dir: Path, shown: str) -> Iterator[Finding]:
    holder, ours = holder_of(connection), read_server_file(data_dir)
    if holder is not None and (ours is None or not holder.endswith(f", process {ours.pid}")):
        yield Finding(
            "database", PROBLEM, f"the server at {holder} uses {shown}",
            "stop it, or give this one a database of its own; two would undo each other's work",
        )  # fmt: skip


def _state_of_schema(connection: Connection, revision: str, shown: str) -> Finding:
    if revision == NEWEST_REVISION:
        problem = schema_problem(connection)
        if problem is not None:
            return Finding("database", PROBLEM, f"{shown} {problem}", "put a backup back (`leanvibe restore FILE`)")
        return Finding("database", OK, f"{shown}, revision {revision}")
    if revision in known_revisions():
        return Finding(
            "database", OK, f"{shown}, revision {revision}; the next start keeps a copy of it and brings it up to date"
        )
    return Finding(
        "database",
        PROBLEM,
        f"{shown} has revision {revision}, which this version does not know",
        "start the newer LeanVibe, or go back: `leanvibe restore FILE` into an empty database, with what was kept before the upgrade",
    )


def _models(settings: Settings) -> Iterator[Finding]:
    if settings.engine == "mock":
        yield Finding(
            "model", WARNING, "the mock engine answers without a model", "leave `engine` out to get a real one"
        )
        return
    try:
        chosen = find_checkpoint(settings.model, settings.cache_dir)
    except ModelError as error:
        yield Finding(
            "model",
            PROBLEM,
            str(error),
            "`leanvibe models` shows what is there, `leanvibe model pull NAME` fetches more",
        )
        return
    if chosen.is_present:
        yield Finding("model", OK, f"{chosen.name} in {chosen.folder}")
    else:
        # Only the embedded one has a place before it is there; others are an error above.
        yield Finding("model", OK, f"{chosen.name} is made at the first start")
    for one in inventory(settings.cache_dir, None):
        is_nameless = one.is_present and one.type.startswith("?")
        if is_nameless or one.provenance.startswith(("failed", "damaged", "unreadable")):
            why = "its config.json cannot be read" if is_nameless else one.provenance
            yield Finding(
                "model", WARNING, f"{one.name}: {why}",
                f"`leanvibe model verify {one.name}` says more; `leanvibe model remove {one.name}` frees its place",
            )  # fmt: skip


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python,
    _processor,
    _memory,
    _clock,
    _folders,
    _descriptors,
    _server,
    _ports,
    _database,
    _models,
)
