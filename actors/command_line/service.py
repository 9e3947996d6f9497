"""`leanvibe service`: run the server at boot, by systemd or launchd."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from actors.command_line.everywhere import Remembered
from actors.command_line.options import data_dir_option, fail
from actors.command_line.printing import print_json, print_line
from actors.command_line.service_managers import Launchd, Manager, Systemd, home, is_ours, write_file
from actors.command_line.service_units import ServicePlan
from actors.settings import SettingsFault, load_settings

__all__ = ["service"]

NOT_INSTALLED = 3
"""Exit status, as of `status` without a server."""

system_option = click.option("--system", "is_system", is_flag=True, help="For the whole machine; needs root.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def service() -> None:
    """Run the server at boot: install, start, stop and watch it as a service of systemd or launchd.

    Example: leanvibe service install
    """


@service.command()
@system_option
@data_dir_option
@click.option(
    "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Settings file of the service."
)
@click.option(
    "--socket-activation", is_flag=True, help="systemd listens, and starts the server with the first connection."
)
@click.option("--memory-max", default="80%", show_default=True, help="Most memory of all processes together (systemd).")
@click.option("--replace", is_flag=True, help="Overwrite a service that is installed and differs.")
@click.option("--no-start", is_flag=True, help="Only write the files.")
@click.option("--print", "only_print", is_flag=True, help="Print the files and write nothing.")
@json_option
def install(
    is_system: bool,
    data_dir: Path | None,
    config: Path | None,
    socket_activation: bool,
    memory_max: str,
    replace: bool,
    no_start: bool,
    only_print: bool,
    as_json: bool,
) -> None:
    """Write the service's files, enable it, and start it.

    Without --system it is yours, runs as you, and uses the folders that the other commands use. With --system it runs as a user of its
    own, with its data in /var/lib/leanvibe.

    Example: leanvibe service install --config ~/leanvibe.toml
    """
    manager = _manager(is_system)
    plan = _plan(manager, data_dir, config, memory_max=memory_max, has_socket=socket_activation)
    files = manager.files(plan)
    if only_print:
        for path, content in files.items():
            print_line(f"# {path}\n{content.decode()}")
        return
    said = _write_files(manager, files, replace=replace)
    _make_folders(plan)
    if not no_start:
        manager.enable(plan)
    if as_json:
        print_json({"files": [str(one) for one in files], "started": not no_start})
        return
    print_line(f"{said}: {', '.join(map(str, files))}")
    if not no_start:
        print_line(f"started; `leanvibe service status{' --system' if is_system else ''}` shows how it is")
    if manager.is_systemd and not is_system:
        print_line(
            "it runs while you are logged in; `loginctl enable-linger` keeps it running at boot and after you log out"
        )


@service.command()
@system_option
@json_option
def uninstall(is_system: bool, as_json: bool) -> None:
    """Stop the service and remove its files. Data and models stay; `leanvibe uninstall` removes those.

    Example: leanvibe service uninstall
    """
    manager = _manager(is_system)
    found = [path for path in manager.all_files() if path.exists() or path.is_symlink()]
    foreign = [path for path in found if not is_ours(path)]
    if foreign:
        fail(f"{foreign[0]} was not written by `leanvibe service install` and is left alone")
    if found:
        manager.disable()
        try:
            for path in found:
                path.unlink()
        except OSError as error:
            fail(f"{error.filename} cannot be removed: {error.strerror}")
        manager.reload()
    if as_json:
        print_json({"removed": [str(one) for one in found]})
    else:
        print_line(f"removed {', '.join(map(str, found))}" if found else "no service is installed")


def _simple(name: str, text: str) -> None:
    """`start` and `stop` differ by a word."""

    @service.command(name=name, help=f"{text}\n\nExample: leanvibe service {name}")
    @system_option
    @json_option
    def command(is_system: bool, as_json: bool) -> None:
        manager = _installed(is_system)
        manager.act(name)
        if as_json:
            print_json({"done": name})


_simple("start", "Start the service now, and wait until it answers.")
_simple("stop", "Stop the service in order until the next boot or `start`.")


@service.command()
@system_option
@json_option
def status(is_system: bool, as_json: bool) -> None:
    """Show whether the service runs, since when, and what it says. Exit status 0 only while it runs.

    Example: leanvibe service status
    """
    manager = _installed(is_system)
    if as_json:
        found = manager.properties()
        print_json(found)
        raise SystemExit(0 if found.get("ActiveState", "active") == "active" else NOT_INSTALLED)
    raise SystemExit(manager.show_status())


@service.command()
@system_option
@click.option("--follow", "-f", is_flag=True, help="Go on with lines as they come.")
@click.option(
    "--lines", "-n", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many of the last."
)
def logs(is_system: bool, follow: bool, lines: int) -> None:
    """Show what the service logged.

    Example: leanvibe service logs --follow
    """
    manager = _installed(is_system)
    raise SystemExit(manager.show_logs(lines=lines, follow=follow))


# --- what is installed where -----------------------------------------------------------------------------


def _write_files(manager: Manager, files: dict[Path, bytes], *, replace: bool) -> str:
    """Write what is missing or differs, and say which it was. What others wrote ends the command."""
    differing = [path for path, content in files.items() if path.exists() and path.read_bytes() != content]
    for path in differing:
        if not is_ours(path):
            fail(f"{path} exists and was not written by `leanvibe service install`; move it away first")
        if not replace:
            fail(f"another service is installed already: {path} differs; --replace overwrites it")
    is_new = any(not path.exists() for path in files)
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
        for path in manager.all_files():
            if path not in files and is_ours(path):
                path.unlink()
    except OSError as error:
        advice = "; run it with sudo" if manager.is_system and os.geteuid() != 0 else ""
        fail(f"{error.filename} cannot be written: {error.strerror}{advice}")
    return "replaced" if differing else "installed" if is_new else "already installed"


def _make_folders(plan: ServicePlan) -> None:
    """Make what the unit lets the server write into: it could not make them itself."""
    for folder in (plan.data_dir, plan.cache_dir):
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            fail(f"the folder {folder} cannot be made: {error.strerror}")


def _manager(is_system: bool) -> Manager:
    if sys.platform == "darwin":
        if is_system:
            fail("--system is for systemd; on macOS the service is an agent of your user")
        return Launchd()
    if shutil.which("systemctl") is None:
        fail("systemd is not installed; start `leanvibe serve` by what this machine has in its place")
    return Systemd(is_system)


def _installed(is_system: bool) -> Manager:
    manager = _manager(is_system)
    if not manager.all_files()[0].exists():
        word = " --system" if is_system else ""
        fail(f"no service is installed; install it with `leanvibe service install{word}`", status=NOT_INSTALLED)
    return manager


def _plan(
    manager: Manager, data_dir: Path | None, config: Path | None, *, memory_max: str, has_socket: bool
) -> ServicePlan:
    """With every path absolute; what the service cannot reach is said now and not at boot."""
    if has_socket and not manager.is_systemd:
        fail("--socket-activation is for systemd")
    program = _program()
    homes = [Path("/home"), Path("/root"), home()]
    if manager.is_system and any(Path(program[0]).is_relative_to(one) for one in homes):
        fail(
            f"{program[0]} lies in a home folder, which a service of the machine cannot read; install LeanVibe elsewhere "
            "(`sudo pipx install --global …`, or `sudo python3 -m venv /opt/leanvibe`), or leave out --system"
        )
    folder = data_dir or Remembered.value(Remembered.DATA_DIR)
    config = None if config is None else config.absolute()
    try:
        settings = load_settings({} if folder is None else {"data_dir": folder}, config=config)
    except SettingsFault as error:
        fail(f"a setting is wrong, and the service would not start: {error}", status=2)
    keeps_folders = not manager.is_system or folder is not None
    return ServicePlan(
        program=program,
        is_system=manager.is_system,
        data_dir=settings.data_dir.absolute() if keeps_folders else None,
        cache_dir=settings.cache_dir.absolute() if keeps_folders else None,
        config=config,
        memory_max=memory_max,
        host=settings.host,
        port=settings.port,
        ws_port=settings.ws_port,
        has_socket=has_socket,
    )


def _program() -> tuple[str, ...]:
    """Return the command of the running program, wherever it is installed."""
    started = Path(sys.argv[0])
    if started.name == "leanvibe" and started.is_file():
        return (str(started.absolute()),)
    return (sys.executable, "-m", "actors.command_line.main")
