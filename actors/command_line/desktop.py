"""Showing a notification on the desktop with the program that the system has for it."""

from __future__ import annotations

import html
import shutil
import subprocess
import sys

import trio

from actors.terminal_text import many_lines, one_line
from protocol.events import Priority
from protocol.notifications import Notification

__all__ = ["DesktopMissing", "desktop_command", "desktop_program", "show_on_desktop"]

SHOW_SECONDS = 5.0
URGENCY = {Priority.CRITICAL: "critical", Priority.LOW: "low", Priority.DEBUG: "low"}
APPLESCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)


class DesktopMissing(Exception):
    """This machine has no program to show notifications with."""


def desktop_program() -> str:
    """`notify-send`, or `osascript` on a Mac. Raises `DesktopMissing`."""
    name = "osascript" if sys.platform == "darwin" else "notify-send"
    if shutil.which(name) is None:
        raise DesktopMissing(f"{name} is not installed; on Debian or Ubuntu: apt-get install libnotify-bin")
    return name


def desktop_command(program: str, notification: Notification) -> list[str]:
    """Return the command to run. Texts are arguments, never part of a script, with control characters made visible."""
    title, body = one_line(notification.title), many_lines(notification.body)
    if program == "osascript":
        script = [part for line in APPLESCRIPT for part in ("-e", line)]
        return [program, *script, title, body]
    urgency = URGENCY.get(notification.priority, "normal")
    return [program, "--app-name=LeanVibe", f"--urgency={urgency}", "--", title, _as_markup(body)]


def _as_markup(body: str) -> str:
    """Plain text for a body that notification servers read as markup, with links and pictures, and `notify-send` for
    backslashes.
    """
    return html.escape(body, quote=False).replace("\\", "\\\\")


async def show_on_desktop(notification: Notification) -> bool:
    """Show it; False when the program failed or took too long, which is no reason to stop listening."""
    command = desktop_command(desktop_program(), notification)
    with trio.move_on_after(SHOW_SECONDS):
        ended = await trio.run_process(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return ended.returncode == 0
    return False
