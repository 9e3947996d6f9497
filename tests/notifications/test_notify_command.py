"""`leanvibe notify` against a running server, and its failures."""

import json
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner

from actors.command_line import desktop
from actors.command_line.desktop import DesktopMissing, desktop_command, desktop_program, show_on_desktop
from actors.command_line.main import leanvibe
from protocol.events import Priority
from protocol.notifications import Notification
from tests.server_fixture import RunningServer, eventually

NOTIFICATION = Notification(
    notification_id="n",
    kind="message",
    priority=Priority.CRITICAL,
    title="--title; rm -rf",
    body='say "hi"',
    data={},
    created_at="2026-01-01T00:00:00.000Z",
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LEANVIBE_CLIENT_ID", "me")
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path))


async def run(server: RunningServer, *arguments: str, status: int = 0) -> str:
    """Run the command in a thread, while the server runs in this one."""
    # Finding a server by the folder's lock is tested elsewhere; this server runs in the test's own process.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.command_line.options.find_server", lambda _: server.about)
        result = await trio.to_thread.run_sync(lambda: CliRunner().invoke(leanvibe, ["notify", *arguments]))
    assert result.exit_code == status, result.output
    return result.output


async def run_json(server: RunningServer, *arguments: str) -> Any:
    return json.loads(await run(server, *arguments, "--json"))


@pytest.mark.integration
async def test_what_is_sent_can_be_listed_and_read(engineless_server: RunningServer) -> None:
    server = engineless_server
    name = (await run(server, "send", "title=Hello", "--priority", "high")).strip()
    await run(server, "send", "--template", "build_failure", "source=CI", "detail=2 errors")
    assert "●\t" in await run(server, "list")
    page = await run_json(server, "list", "--limit", "1")
    assert page["notifications"][0]["title"] == "Build failed: CI"
    assert "more with --cursor" in await run(server, "list", "--limit", "1")
    assert await run(server, "read", name) == "1 read, 1 unread\n"
    assert [one["kind"] for one in (await run_json(server, "list", "--unread"))["notifications"]] == ["build_failure"]
    assert await run(server, "read", "--all") == "1 read, 0 unread\n"
    assert "title is missing" in await run(server, "send", status=1)
    assert "FIELD=TEXT; the template build_failure has source, detail" in await run(
        server, "send", "--template", "build_failure", "Hello", status=2
    )
    assert "--all" in await run(server, "read", status=2)


@pytest.mark.integration
async def test_devices_and_preferences_can_be_set(engineless_server: RunningServer) -> None:
    server = engineless_server
    webhook = ("--webhook", "https://hook.example.org/x", "--secret", "s" * 16)
    assert "hook.example.org" in await run(server, "devices", *webhook)
    assert "https address" in await run(server, "devices", "--webhook", "http://a/", "--secret", "s" * 16, status=1)
    changed = await run_json(
        server, "prefs", "--quiet", "22:00-07:00", "--timezone", "Europe/Berlin", "--rate", "10/60", "--no-ai"
    )
    assert changed["quiet_hours"] == {"start": "22:00", "end": "07:00", "timezone": "Europe/Berlin"}
    assert changed["rate_limit"] == {"count": 10, "seconds": 60}
    for words in ("22:00-07:00 Europe/Berlin", "10/60", "no"):
        assert words in await run(server, "prefs")
    assert "--quiet must be a time of day" in await run(server, "prefs", "--quiet", "25:00-07:00", status=1)
    changed = await run_json(server, "prefs", "--quiet", "off", "--rate", "off", "--ai", "--min-priority", "low")
    assert changed == {"min_priority": "low", "ai_notifications": True}
    assert (await run_json(server, "prefs", "--device", "webhook", "--locale", "de"))["locale"] == "de"
    assert "min_priority" in await run(server, "prefs")
    for wrong in (("--quiet", "22"), ("--rate", "5"), ("--timezone", "UTC")):
        await run(server, "prefs", *wrong, status=2)
    assert await run_json(server, "devices", "--remove", "webhook") == {"devices": []}
    assert "device webhook is not registered" in await run(server, "devices", "--remove", "webhook", status=1)


def test_without_a_server_it_says_how_to_start_one() -> None:
    result = CliRunner().invoke(leanvibe, ["notify", "list"])
    assert result.exit_code == 3
    assert " serve --data-dir " in result.output


@pytest.mark.parametrize("command", ["listen", "list", "read", "send", "devices", "prefs"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(leanvibe, ["notify", command, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


# --- the desktop --------------------------------------------------------------------------------------


def test_texts_are_arguments_and_never_options_or_scripts() -> None:
    linux = desktop_command("notify-send", NOTIFICATION)
    assert linux[-3:] == ["--", "--title; rm -rf", 'say "hi"']
    assert "--urgency=critical" in linux
    mac = desktop_command("osascript", NOTIFICATION)
    assert mac[-2:] == ["--title; rm -rf", 'say "hi"']
    assert not any("rm -rf" in one for one in mac[:-2])


async def test_the_desktops_own_program_gets_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "osascript" if sys.platform == "darwin" else "notify-send"
    program = tmp_path / name
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/said\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert await show_on_desktop(NOTIFICATION)
    assert (tmp_path / "said").read_text().splitlines()[-2:] == ["--title; rm -rf", 'say "hi"']
    program.write_text("#!/bin/sh\nexit 1\n")
    assert not await show_on_desktop(NOTIFICATION)
    monkeypatch.setattr(desktop, "SHOW_SECONDS", 0.05)
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    assert not await show_on_desktop(NOTIFICATION)


def test_a_machine_without_the_program_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DesktopMissing, match="libnotify-bin"):
        desktop_program()


@pytest.mark.integration
async def test_listening_prints_each_notification_once_and_leaves_after_so_many(
    engineless_server: RunningServer, tmp_path: Path
) -> None:
    server = engineless_server
    said: list[str] = []

    async def listen() -> None:
        # A process of its own: the command runs an event loop and handles signals.
        script = (
            "import sys, actors.command_line.notify as notify, actors.command_line.options as options; from actors.inspection.server_file import ServerFile; "
            f"options.find_server = lambda _: ServerFile(**{attrs.asdict(server.about)!r}); notify.notify(sys.argv[1:])"
        )
        command = [sys.executable, "-c", script, "listen", "--json", "--count", "2"]
        with trio.fail_after(60):
            ended = await trio.run_process(command, capture_stdout=True)
        said.extend(ended.stdout.decode().splitlines())

    async def has_said_hello() -> bool:
        # It receives everything from its hello on, and nothing sent before.
        return any([(await server.snapshot(path))["client_id"] for path in server.connections()])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await eventually(has_said_hello, seconds=30)
        await run(server, "send", "title=one")
        await run(server, "send", "title=two")
    assert [json.loads(one)["title"] for one in said] == ["one", "two"]
