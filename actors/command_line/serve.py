"""`leanvibe serve`: bind, lock, prepare the model, run the tree."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from actors.command_line.early_worker import early_worker
from actors.command_line.embedded_model import ensure_checkpoint
from actors.command_line.options import client_name_default, data_dir_option, fail, settings_from
from actors.command_line.printing import print_line
from actors.command_line.web_page import open_web_page
from actors.descriptor_limit import ConnectionBudget, budget_for, raise_descriptor_limit
from actors.inspection.server_file import (
    DataFolderBusy,
    DataFolderUnsafe,
    ServerFile,
    inspection_socket_path,
    lock_data_folder,
)
from actors.own_command import line_here
from actors.queued_output import finish_output
from actors.service_manager.listening_sockets import SocketsUnusable, take_listening_sockets
from actors.service_manager.notify_socket import NotifySocket, take_notify_socket
from actors.settings import Settings, SettingsFault
from actors.startup import resume_collections
from actors.tls import CertificateFault, first_certificate, server_context
from actors.tracing.endpoint import export_settings

if TYPE_CHECKING:
    from actors.inference.worker_process import InferenceWorker

__all__ = ["serve"]

BACKLOG = 256
HTTP_CONNECTIONS = 512
"""As many as REST takes where nothing is set."""
STOP_SECONDS = 9.0
"""What the stop may take after the drain; then the process ends itself."""
WATCHDOG_SECONDS = 1.0
"""And after as much more it is ended from outside."""
LAST_WORDS_SECONDS = 0.25
"""What a hard exit waits for each stream's reader."""
EXIT_SOFTWARE = 70
"""Exit status of a hard exit (EX_SOFTWARE of sysexits.h)."""
EXAMPLE = "Write a simple Python function to add two numbers."
ADAPTER_FILES = ("adapter_config.json", "adapters.safetensors")


@attrs.frozen
class Ports:
    """The two listening sockets."""

    rest: socket.socket
    websocket: socket.socket
    tls: ssl.SSLContext | None
    is_ephemeral: bool


@click.command()
@click.option("--host", help="Address of both listeners; only loopback ones while there are no tokens.")
@click.option("--port", type=int, help="Port of REST and health; 0 takes a free one. [default: 8000]")
@click.option("--ws-port", type=int, help="Port of the WebSocket; 0 takes a free one. [default: 8765]")
@data_dir_option
@click.option("--model", help="Model by name, or the folder of a checkpoint. [default: embedded]")
@click.option(
    "--adapter", type=click.Path(path_type=Path, exists=True, file_okay=False), help="LoRA adapter put onto the model."
)
@click.option("--engine", type=click.Choice(["mlx", "mock"]), help="mock answers without a model, for development.")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: leanvibe.toml here]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--check", is_flag=True, help="Only say whether the settings are valid.")
@click.option("--open", "opens_page", is_flag=True, help="Open the console in the browser once the server is up.")
@click.option("--ephemeral", is_flag=True, hidden=True)
def serve(check: bool, opens_page: bool, ephemeral: bool, **options: Any) -> None:
    """Run the server until Ctrl-C. Each option is also LEANVIBE_… in the environment and a key in leanvibe.toml."""
    settings = settings_from(**options)
    _check_traces(settings)
    if check:
        _check(settings)
        return
    # Before any process is started, which must not speak for this one.
    manager = take_notify_socket()
    handed = _handed_over()
    if handed is not None:
        # Where it listens decides whether it needs tokens, whatever the settings say.
        (host, port), ws_port = handed[0].getsockname()[:2], handed[1].getsockname()[1]
        settings = attrs.evolve(settings, host=host, port=port, ws_port=ws_port)
    settings = _within_descriptors(settings)
    tls = _tls(settings)
    try:
        lock = lock_data_folder(settings.data_dir)
    except (DataFolderBusy, DataFolderUnsafe) as error:
        fail(str(error))
    except OSError as error:
        fail(f"the data folder {settings.data_dir} cannot be used: {error.strerror}; name another with --data-dir")
    try:
        with contextlib.ExitStack() as held:
            worker = held.enter_context(early_worker(settings, is_ephemeral=ephemeral))
            # The database takes a third of a second to import, and the worker is on its way meanwhile.
            from actors.command_line.serve_database import prepared_database

            read_only = held.enter_context(prepared_database(settings))
            if handed is None:
                rest = held.enter_context(_bind(settings.host, settings.port, "--port"))
                websocket = held.enter_context(_bind(settings.host, settings.ws_port, "--ws-port"))
            else:
                rest, websocket = map(held.enter_context, handed)
            if manager is not None:
                manager.send(status="preparing the model")
            checkpoint = None if settings.engine == "mock" else ensure_checkpoint(settings, (rest, websocket), tls)
            _check_adapter(settings)
            ports = Ports(rest, websocket, tls, ephemeral)
            _run(settings, checkpoint, ports, read_only, manager, worker, opens_page=opens_page)
    finally:
        os.close(lock)


def _check(settings: Settings) -> None:
    """Check the settings without taking a lock, port or database; the first fault ends the command.

    A broker is asked whether it can carry a cluster.
    """
    from actors.command_line.serve_cluster import checked_cluster
    from actors.inference.checkpoints.catalogue import find_checkpoint
    from actors.inference.checkpoints.errors import ModelError
    from actors.storage.database import database_url
    from actors.storage.errors import DatabaseUnusable

    _tls(settings)
    _check_adapter(settings)
    try:
        checked_cluster(settings, database_url(settings.database, settings.data_dir))
        if settings.engine != "mock":
            found = find_checkpoint(settings.model, settings.cache_dir)
            if not found.is_present and not found.is_embedded:
                fail(f"the model {settings.model!r} is not at {found.folder}", status=2)
    except (DatabaseUnusable, ModelError) as error:
        fail(str(error), status=2)
    print_line("the settings are valid; `leanvibe doctor` checks what is around them")


def _within_descriptors(settings: Settings) -> Settings:
    """With as many connections as this process may have files open; a warning where that is less than was set."""
    wanted = ConnectionBudget(
        websocket=settings.max_connections, http=settings.max_http_connections or HTTP_CONNECTIONS
    )
    limit = raise_descriptor_limit()
    budget = budget_for(limit, wanted)
    if budget == wanted:
        return settings
    print_line(
        f"WARNING: this process may open {limit} files (ulimit -n), so it takes {budget.websocket} WebSocket and "
        f"{budget.http} HTTP connections at once, not {wanted.websocket} and {wanted.http}.",
        style="yellow",
        err=True,
    )
    return attrs.evolve(settings, max_connections=budget.websocket, max_http_connections=budget.http)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of both listeners, or None."""
    if settings.tls_certificate is None:
        if settings.tls_key is not None:
            fail("tls_key is set and tls_certificate is not; a key alone is of no use", status=2)
        return None
    try:
        return server_context(settings.tls_certificate, settings.tls_key)
    except CertificateFault as error:
        fail(str(error), status=2)


def _check_traces(settings: Settings) -> None:
    """An endpoint that nothing can be sent to is wrong from the start, and not only at the first span."""
    try:
        export_settings(settings, os.environ)
    except SettingsFault as fault:
        fail(str(fault), status=2)


def _check_adapter(settings: Settings) -> None:
    """Check an adapter's files; whether it fits the model is checked by the worker."""
    if settings.adapter is None:
        return
    if settings.engine == "mock":
        fail("--adapter needs a model, and the mock engine has none", status=2)
    missing = [name for name in ADAPTER_FILES if not (settings.adapter / name).is_file()]
    if missing:
        fail(f"{settings.adapter} is no adapter of mlx_lm.lora: it has no {' and no '.join(missing)}", status=2)


def _handed_over() -> tuple[socket.socket, socket.socket] | None:
    """Sockets of REST and of the WebSocket that a service manager listens on already."""
    try:
        return take_listening_sockets()
    except SocketsUnusable as error:
        fail(str(error), status=2)


def _bind(host: str, port: int, option: str) -> socket.socket:
    """A listening socket, or a plain message."""
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            fail(f"port {port} on {host} is in use; choose another with {option}, or 0 for a free one")
        fail(f"cannot listen on {host} port {port}: {error.strerror}")
    return bound


def _url(scheme: str, bound: socket.socket, path: str = "") -> str:
    host, port = bound.getsockname()[:2]
    # What listens everywhere is found here too; "everywhere" is no address to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared with, not bound to
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"


def _run(
    settings: Settings,
    checkpoint: Path | None,
    ports: Ports,
    read_only: str | None,
    manager: NotifySocket | None,
    worker: InferenceWorker | None,
    *,
    opens_page: bool,
) -> None:
    import trio

    import protocol
    from actors.application import Listening, make_tree
    from actors.logging import configure_logging, log_event
    from protocol.codec import prepare_hooks, wire_time
    from runtime import ActorSystem, Event, RuntimeFault, SystemStopping, Watchdog

    configure_logging(settings.log_level)
    if not ports.is_ephemeral:
        prepare_hooks()
    rest, websocket, tls = ports.rest, ports.websocket, ports.tls
    about = ServerFile(
        pid=os.getpid(),
        started_at=wire_time(),
        rest_url=_url("http" if tls is None else "https", rest),
        # REST's port serves it as well, which an ephemeral server's first answer shall not wait for.
        websocket_url=_url("ws" if tls is None else "wss", websocket if ports.is_ephemeral else rest, protocol.PATH),
        inspection_socket=str(inspection_socket_path(settings.data_dir)),
        engine=settings.engine,
        model="mock" if settings.engine == "mock" else settings.model,
        model_folder=None if checkpoint is None else str(checkpoint.resolve()),
        certificate=None if settings.tls_certificate is None else first_certificate(settings.tls_certificate),
    )
    system = ActorSystem(
        drain_seconds=settings.drain_seconds,
        total_stop_seconds=settings.drain_seconds + STOP_SECONDS,
        handle_signals=True,
        watchdog=Watchdog.start(settings.drain_seconds + STOP_SECONDS + WATCHDOG_SECONDS),
        on_overdue=_exit_at_once,
    )
    system.observers.append(log_event)
    if manager is not None:

        def tell_stop(event: Event) -> None:
            if isinstance(event, SystemStopping):
                manager.send("STOPPING=1", status=f"stopping: {event.reason}")

        system.observers.append(tell_stop)

    async def run() -> None:
        listening = Listening(websocket, rest, tls, is_ephemeral=ports.is_ephemeral)
        tree = make_tree(system, settings, checkpoint, listening, about, read_only, manager, worker)
        async with trio.open_nursery() as nursery:

            async def serve_tree(task_status: trio.TaskStatus[None]) -> None:
                await system.run(tree, task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(serve_tree)
            # Paused since the process began.
            resume_collections()
            if system.stopping_reason is None:
                _greet(about, settings)
                if opens_page:
                    nursery.start_soon(_open_console, about)

    try:
        trio.run(run, strict_exception_groups=True)
    except BaseExceptionGroup as group:
        for error in _leaves(group):
            print_line(f"leanvibe: the server gave up: {_in_words(error)}", style="red", err=True)
            for note in getattr(error, "__notes__", ()):
                print_line(f"  {note}", err=True)
            if isinstance(error, RuntimeFault) and isinstance(error.__cause__, BaseExceptionGroup):
                for cause in _leaves(error.__cause__):
                    print_line(f"  because {_in_words(cause)}", err=True)
        print_line("  `leanvibe serve --log-level debug` shows where this happens.", err=True)
        raise SystemExit(1) from None


async def _open_console(about: ServerFile) -> None:
    """Show the page; cancelled, it leaves the browser to itself."""
    import trio

    if not await trio.to_thread.run_sync(open_web_page, _console_address(about), abandon_on_cancel=True):
        print_line("  No browser was found here to open the console in; its address is above.", err=True)


def _console_address(about: ServerFile) -> str:
    return f"{about.rest_url}/?client={client_name_default()}"


def _in_words(error: BaseException) -> str:
    """An error as part of a sentence. Where its text was not written for people, its class says what the text leaves out."""
    from actors.storage.errors import DatabaseUnusable
    from runtime import RuntimeFault

    said = str(error).strip()
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"the system refused something that it needs: {error.strerror}{where}"
    if isinstance(error, (RuntimeFault, DatabaseUnusable)) and said:
        return said
    return f"an error inside the server that nothing expected: {said or 'without a text'} (a {type(error).__name__})"


def _exit_at_once(report: str) -> None:
    """A hard exit: say what is stuck, unless nobody reads, and go."""
    try:
        print_line(report, err=True)
        finish_output(LAST_WORDS_SECONDS)
    finally:
        os._exit(EXIT_SOFTWARE)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf for one in group.exceptions for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]


def _greet(about: ServerFile, settings: Settings) -> None:
    """Print what to try next, as lines that work as printed."""
    print_line("LeanVibe is up.", style="green", err=True)
    print_line(f"  WebSocket  {about.websocket_url}", err=True)
    print_line(f"  REST       {about.rest_url}  (health: {about.rest_url}/health/mlx)", err=True)
    client = client_name_default()
    print_line(f"  Console    {_console_address(about)}", err=True)
    print_line(f"  Pages      {about.rest_url}/docs  {about.rest_url}/push?client={client}", err=True)
    print_line(f"  Model      {about.model}, loading; when it is ready this says so:", err=True)
    print_line(f"             {line_here(settings, 'status')}", err=True)
    print_line(f"  Try        {line_here(settings, 'ask', EXAMPLE)}", err=True)
