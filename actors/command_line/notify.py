"""`leanvibe notify`: receive notifications, read them, and set preferences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from rich.table import Table

from actors.command_line.local_time import local_time
from actors.command_line.options import (
    ReachingGroup,
    client_name_default,
    client_option,
    data_dir_option,
    fail,
    settings_from,
)
from actors.command_line.place import Place, one_of_prefix, place_of
from actors.command_line.printing import json_text, print_json, print_line
from actors.command_line.screen import Screen, words
from actors.settings import Settings
from actors.terminal_text import many_lines, shown_document
from protocol.events import Priority
from protocol.notification_templates import TEMPLATES

if TYPE_CHECKING:
    from protocol.notifications import Notification

__all__ = ["notify"]

PAGE = 200
SHORT_ID = 8
TOLD_KEPT = 1024
"""Ids of notifications that were shown: one that is delivered twice is shown once."""
_COLOURS = {"critical": "bold red", "high": "yellow", "medium": "default", "low": "dim", "debug": "dim"}


@click.group(cls=ReachingGroup)
@data_dir_option
@client_option
@click.pass_context
def notify(context: click.Context, data_dir: Path | None, client_id: str | None) -> None:
    """Read and send notifications, and set preferences and devices."""
    context.obj = (settings_from(data_dir=data_dir), client_id or client_name_default())


def _place(found: tuple[Settings, str]) -> Place:
    return place_of(*found, "notifications")


@notify.command()
@click.option("--device", default="desktop", show_default=True, help="What this machine is called.")
@click.option("--desktop", is_flag=True, help="Show them with notify-send or osascript, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--count", type=click.IntRange(min=1), help="Leave after so many.")
@click.pass_obj
def listen(found: tuple[Settings, str], device: str, desktop: bool, as_json: bool, count: int | None) -> None:
    """Print notifications as they come, until Ctrl-C. What is printed counts as delivered to this device."""
    # What follows takes half a second to import, which `list` and the others need not wait for.
    from actors.command_line.ask import run_until_interrupted
    from actors.command_line.desktop import DesktopMissing, desktop_program, show_on_desktop
    from actors.command_line.outage import Outage
    from protocol.client import connect

    place = _place(found)
    if desktop:
        try:
            desktop_program()
        except DesktopMissing as missing:
            fail(str(missing))

    async def follow() -> None:
        told: dict[str, None] = {}
        async with (
            connect(
                place.address,
                client_id=place.client_id,
                device_id=device,
                agent="leanvibe notify",
                token=place.credentials.token,
                ssl_context=place.credentials.tls,
                reconnect=True,
                events=True,
                on_change=Outage().take,
            ) as client,
            client.events() as events,
        ):
            async for event in events:
                notification = _notification_of(event)
                if notification is None or notification.notification_id in told:
                    continue
                told[notification.notification_id] = None
                if len(told) > TOLD_KEPT:
                    del told[next(iter(told))]
                _print(notification, as_json=as_json)
                if desktop:
                    await show_on_desktop(notification)
                if len(told) == count:
                    return

    run_until_interrupted(follow)


def _notification_of(event: object) -> Notification | None:
    """The notification of an event; None for any other."""
    from protocol.client.streams import ClientEvent
    from protocol.notifications import NotificationEvent

    if not isinstance(event, ClientEvent) or event.type != "notification":
        return None
    typed = event.typed
    return typed.notification if isinstance(typed, NotificationEvent) else None


def _print(notification: Notification, *, as_json: bool) -> None:
    from protocol.codec import unstructure

    if as_json:
        print_json(unstructure(notification))
        return
    screen = Screen()
    when = local_time(notification.created_at) if screen.is_terminal else notification.created_at
    text = words(f"{when}  ", style="dim")
    text.append(words(notification.title, style=_COLOURS[notification.priority.value]))
    for line in many_lines(notification.body).splitlines():
        text.append(f"\n    {line}")
    screen.print(text)


@notify.command(name="list")
@click.option("--unread", is_flag=True, help="Only unread ones.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--cursor", help="The next page, as the last one named it.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_(found: tuple[Settings, str], unread: bool, limit: int, cursor: str | None, as_json: bool) -> None:
    """List notifications, unread first."""
    page = _place(found).call("GET", limit=limit, cursor=cursor, unread_only="true" if unread else None)
    if as_json:
        print_json(page)
        return
    page = shown_document(page)
    screen = Screen()
    table = Table(title=f"{page['unread']} unread")
    for name in ("", "when", "priority", "title", "id"):
        table.add_column(name, overflow="fold", no_wrap=name in ("when", "id"))
    for one in page["notifications"]:
        style = _COLOURS[one["priority"]]
        mark = " " if "read_at" in one else "●"
        when, identifier = one["created_at"], one["notification_id"]
        if screen.is_terminal:
            # `read` takes the beginning of an id, and a whole one would be broken into lines.
            when, identifier = local_time(when), identifier[:SHORT_ID]
        table.add_row(mark, when, words(one["priority"], style), words(one["title"], style), identifier)
    screen.print(table if page["notifications"] or not screen.is_terminal else table.title)
    if "next" in page:
        print_line(f"more with --cursor {page['next']}")


@notify.command()
@click.argument("notification_ids", nargs=-1)
@click.option("--all", "read_all", is_flag=True, help="Everything.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def read(found: tuple[Settings, str], notification_ids: tuple[str, ...], read_all: bool, as_json: bool) -> None:
    """Mark notifications as read. One is named by its id or by the beginning of it."""
    if read_all == bool(notification_ids):
        fail("name notifications, or give --all", status=2)
    place = _place(found)
    if read_all:
        result = place.call("POST", "/read-all")
    else:
        known = _known(place)
        whole = [one_of_prefix(one, known, what="notification") for one in notification_ids]
        result = place.call("POST", "/read", {"notification_ids": list(dict.fromkeys(whole))})
    if as_json:
        print_json(result)
        return
    print_line(f"{result['changed']} read, {result['unread']} unread")


def _known(place: Place) -> list[tuple[str, str]]:
    """Ids and titles of all notifications."""
    found: list[tuple[str, str]] = []
    cursor = None
    while True:
        page = place.call("GET", limit=PAGE, cursor=cursor)
        found += [(one["notification_id"], one["title"]) for one in page["notifications"]]
        cursor = page.get("next")
        if cursor is None:
            return found


@notify.command()
@click.argument("given", nargs=-1, metavar="[TITLE] [FIELD=TEXT]...")
@click.option(
    "--template",
    default="message",
    show_default=True,
    type=click.Choice([name for name, one in TEMPLATES.items() if one.may_be_posted]),
)
@click.option("--priority", type=click.Choice([one.value for one in Priority]), help="By default the template's.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def send(
    found: tuple[Settings, str], given: tuple[str, ...], template: str, priority: str | None, as_json: bool
) -> None:
    """Tell all devices of an event, as `send It is done body="All of it"` or `send --template build_failure source=CI`."""
    fields = dict(one.split("=", 1) for one in given if "=" in one)
    if title := " ".join(one for one in given if "=" not in one):
        known = TEMPLATES[template].fields
        if "title" in fields or "title" not in known:
            fail(f"{title!r} is not FIELD=TEXT; the template {template} has {', '.join(known)}", status=2)
        fields["title"] = title
    body: dict[str, Any] = {"template": template, "fields": fields}
    if priority is not None:
        body["priority"] = priority
    posted = _place(found).call("POST", "", body)
    if as_json:
        print_json(posted)
    else:
        print_line(posted["notification_id"])


@notify.command()
@click.option("--remove", "removed", metavar="DEVICE", help="Forget this device.")
@click.option("--webhook", metavar="URL", help="Register a webhook at this https address; needs --secret.")
@click.option("--name", default="webhook", show_default=True, help="What to call the webhook.")
@click.option("--secret", envvar="LEANVIBE_WEBHOOK_SECRET", help="Signs what is sent (also LEANVIBE_WEBHOOK_SECRET).")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def devices(
    found: tuple[Settings, str],
    removed: str | None,
    webhook: str | None,
    name: str,
    secret: str | None,
    as_json: bool,
) -> None:
    """List the devices that pushes go to; register a webhook, or forget a device. Browsers register at /push."""
    place = _place(found)
    if removed is not None:
        place.call("DELETE", f"/devices/{quote(removed, safe='')}")
    if webhook is not None:
        body = {"device_id": name, "platform": "webhook", "url": webhook, "secret": secret}
        place.call("POST", "/devices", {key: value for key, value in body.items() if value is not None})
    listed = place.call("GET", "/devices")
    if as_json:
        print_json(listed)
        return
    table = Table()
    for column in ("device", "platform", "host", "registered"):
        table.add_column(column)
    for one in shown_document(listed["devices"]):
        table.add_row(one["device_id"], one["platform"], one["host"] or "–", one["created_at"])
    Screen().print(table)


@notify.command()
@click.option("--device", help="Those of a registered device; by default the client's.")
@click.option("--min-priority", type=click.Choice([one.value for one in Priority]))
@click.option("--quiet", metavar="22:00-07:00", help="Hours in which only `critical` ones are sent; `off` ends them.")
@click.option("--timezone", help="Of the quiet hours, as Europe/Berlin.")
@click.option("--rate", metavar="COUNT/SECONDS", help="Most in a time; the rest comes as a digest; `off` ends it.")
@click.option("--ai/--no-ai", default=None, help="Whether to tell what the assistant did.")
@click.option("--locale", help="Language, as en or de.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def prefs(
    found: tuple[Settings, str],
    device: str | None,
    min_priority: str | None,
    quiet: str | None,
    timezone: str | None,
    rate: str | None,
    ai: bool | None,
    locale: str | None,
    as_json: bool,
) -> None:
    """Show preferences, or change those that are given."""
    place = _place(found)
    preferences = place.call("GET", "/preferences", device_id=device)
    wanted = dict(preferences)
    if min_priority is not None:
        wanted["min_priority"] = min_priority
    if quiet is not None:
        wanted["quiet_hours"] = None if quiet == "off" else _quiet_hours(quiet)
    if timezone is not None:
        if not wanted.get("quiet_hours"):
            fail("--timezone is of quiet hours; give --quiet as well", status=2)
        wanted["quiet_hours"] = {**wanted["quiet_hours"], "timezone": timezone}
    if rate is not None:
        wanted["rate_limit"] = None if rate == "off" else _rate_limit(rate)
    if ai is not None:
        wanted["ai_notifications"] = ai
    if locale is not None:
        wanted["locale"] = locale
    if wanted != preferences:
        preferences = place.call(
            "PUT", "/preferences", {name: one for name, one in wanted.items() if one is not None}, device_id=device
        )
    if as_json:
        print_json(preferences)
        return
    table = Table(show_header=False)
    for name, value in preferences.items():
        table.add_row(words(name), words(_in_words(value)))
    Screen().print(table)


def _in_words(value: Any) -> str:
    """A preference as its option is written."""
    match value:
        case bool():
            return "yes" if value else "no"
        case {"start": start, "end": end, **rest}:
            return f"{start}-{end} {rest.get('timezone', '')}".strip()
        case {"count": count, "seconds": seconds}:
            return f"{count}/{seconds} (count/seconds)"
        case dict() | list():
            return json_text(value)
        case _:
            return str(value)


def _quiet_hours(text: str) -> dict[str, str]:
    start, _, end = text.partition("-")
    if not end:
        fail("--quiet is two times of day, as 22:00-07:00", status=2)
    return {"start": start, "end": end}


def _rate_limit(text: str) -> dict[str, int]:
    match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if match is None:
        fail("--rate is COUNT/SECONDS, as 10/60", status=2)
    return {"count": int(match[1]), "seconds": int(match[2])}
