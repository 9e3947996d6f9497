"""Notification templates as data, with typed fields, texts in several languages, and lengths per channel."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template as TextTemplate
from typing import Any

from attrs import field, frozen

from protocol.events import Priority
from protocol.validation import FieldFault

__all__ = [
    "CHANNEL_LENGTHS",
    "DEFAULT_LOCALE",
    "LOCALES",
    "TEMPLATES",
    "ChannelLength",
    "NotificationTemplate",
    "TemplateField",
    "checked_fields",
    "cut",
    "render",
]

LOCALES = ("en", "de")
DEFAULT_LOCALE = "en"
Text = Mapping[str, str | int]


@frozen
class TemplateField:
    """A field of a template."""

    kind: type
    """`str` or `int`."""
    maximum: int
    """Characters of a string, or the largest number."""
    default: str | int | None = None
    """Value if the field is not given; None makes it required."""


@frozen(kw_only=True)
class NotificationTemplate:
    """One kind of notification."""

    priority: Priority
    """Priority if the event has none."""
    fields: Mapping[str, TemplateField]
    texts: Mapping[str, tuple[str, str]]
    """Title and body by language, with `$field` in them."""
    is_ai: bool = False
    """True if it reports work of the assistant, which `ai_notifications` turns off."""
    may_be_posted: bool = False
    """True if a client may post it; the others report what the server itself knows."""
    data: tuple[str, ...] = field(default=())
    """Fields that are also sent as data, for programs that open the object."""


@frozen
class ChannelLength:
    """Length of text that a channel shows, in characters; longer text is cut and ends with an ellipsis."""

    title: int
    body: int


CHANNEL_LENGTHS: Mapping[str, ChannelLength] = {
    "in_app": ChannelLength(200, 4000),
    "web_push": ChannelLength(120, 500),
    "apns": ChannelLength(120, 500),
    "webhook": ChannelLength(200, 4000),
}
"""Lengths by channel. The encoded payload of a push also has a limit in bytes; see the channels."""

_TITLE = TemplateField(str, 500)
_ID = TemplateField(str, 64, "")
_STATUS = TemplateField(str, 64, "")
_DETAIL = TemplateField(str, 4000, "")
_SOURCE = TemplateField(str, 300, "")
_TASK = {"title": _TITLE, "task_id": _ID, "status": _STATUS}


def _task(priority: Priority, english: tuple[str, str], german: tuple[str, str]) -> NotificationTemplate:
    return NotificationTemplate(
        priority=priority, fields=_TASK, texts={"en": english, "de": german}, data=("task_id", "status")
    )


def _report(priority: Priority, english: str, german: str) -> NotificationTemplate:
    return NotificationTemplate(
        priority=priority,
        fields={"source": _SOURCE, "detail": _DETAIL},
        texts={"en": (f"{english}: $source", "$detail"), "de": (f"{german}: $source", "$detail")},
        may_be_posted=True,
        data=("source",),
    )


TEMPLATES: Mapping[str, NotificationTemplate] = {
    "task_created": _task(
        Priority.LOW, ("New task: $title", "Status: $status"), ("Neue Aufgabe: $title", "Status: $status")
    ),
    "task_moved": _task(
        Priority.LOW, ("Task moved: $title", "Now in $status"), ("Aufgabe verschoben: $title", "Jetzt in $status")
    ),
    "task_blocked": _task(
        Priority.HIGH,
        ("Task blocked: $title", "It waits for another task."),
        ("Aufgabe blockiert: $title", "Sie wartet auf eine andere Aufgabe."),
    ),
    "approval_needed": _task(
        Priority.HIGH,
        ("Your approval is needed: $title", "A task waits for your decision."),
        ("Freigabe nötig: $title", "Eine Aufgabe wartet auf Ihre Entscheidung."),
    ),
    "due_soon": _task(
        Priority.MEDIUM, ("Due soon: $title", "Status: $status"), ("Bald fällig: $title", "Status: $status")
    ),
    "analysis_done": NotificationTemplate(
        priority=Priority.MEDIUM,
        fields={"title": _TITLE, "task_id": _ID, "status": _STATUS, "detail": _DETAIL},
        texts={"en": ("Analysis done: $title", "$detail"), "de": ("Analyse fertig: $title", "$detail")},
        is_ai=True,
        data=("task_id",),
    ),
    "response_done": NotificationTemplate(
        priority=Priority.MEDIUM,
        fields={"title": _TITLE, "response_id": _ID, "status": _STATUS},
        texts={"en": ("Answer done: $title", "$status"), "de": ("Antwort fertig: $title", "$status")},
        is_ai=True,
        data=("response_id", "status"),
    ),
    "engine_degraded": NotificationTemplate(
        priority=Priority.HIGH,
        fields={"model": _SOURCE, "detail": _DETAIL},
        texts={
            "en": ("The model is not available", "$model: $detail"),
            "de": ("Das Modell ist nicht verfügbar", "$model: $detail"),
        },
        data=("model",),
    ),
    "engine_recovered": NotificationTemplate(
        priority=Priority.MEDIUM,
        fields={"model": _SOURCE},
        texts={"en": ("The model answers again", "$model"), "de": ("Das Modell antwortet wieder", "$model")},
        data=("model",),
    ),
    "engine_restarted": NotificationTemplate(
        priority=Priority.LOW,
        fields={"model": _SOURCE},
        texts={"en": ("The model was started again", "$model"), "de": ("Das Modell wurde neu gestartet", "$model")},
        data=("model",),
    ),
    "device_removed": NotificationTemplate(
        priority=Priority.MEDIUM,
        fields={"device_id": TemplateField(str, 64), "detail": _DETAIL},
        texts={
            "en": ("Push to $device_id has ended", "$detail"),
            "de": ("Push an $device_id ist beendet", "$detail"),
        },
        data=("device_id",),
    ),
    "digest": NotificationTemplate(
        priority=Priority.MEDIUM,
        fields={"count": TemplateField(int, 1_000_000), "titles": _DETAIL},
        texts={
            "en": ("$count more notifications", "$titles"),
            "de": ("$count weitere Mitteilungen", "$titles"),
        },
        data=("count",),
    ),
    "message": NotificationTemplate(
        priority=Priority.MEDIUM,
        fields={"title": _TITLE, "body": _DETAIL},
        texts={"en": ("$title", "$body"), "de": ("$title", "$body")},
        may_be_posted=True,
    ),
    "build_failure": _report(Priority.CRITICAL, "Build failed", "Build fehlgeschlagen"),
    "test_failure": _report(Priority.CRITICAL, "Tests failed", "Tests fehlgeschlagen"),
    "security_issue": _report(Priority.CRITICAL, "Security issue", "Sicherheitsproblem"),
    "architectural_violation": _report(Priority.CRITICAL, "Architecture violated", "Architektur verletzt"),
    "complexity_spike": _report(Priority.HIGH, "Complexity rose", "Komplexität gestiegen"),
    "circular_dependency": _report(Priority.HIGH, "Circular dependency", "Zirkuläre Abhängigkeit"),
    "performance_regression": _report(Priority.HIGH, "Slower than before", "Langsamer als zuvor"),
    "code_quality_warning": _report(Priority.MEDIUM, "Code quality", "Codequalität"),
    "dependency_update": _report(Priority.MEDIUM, "Dependency update", "Abhängigkeit aktualisiert"),
}
"""Every kind of notification by name."""


def checked_fields(kind: str, given: Mapping[str, Any]) -> dict[str, str | int]:
    """Checks a template's fields and fills in defaults. Raises `FieldFault` with the field's path."""
    template = TEMPLATES[kind]
    for name in given:
        if name not in template.fields:
            raise FieldFault(f"fields.{str(name)[:64]}", f"is not a field of the template {kind}")
    values: dict[str, str | int] = {}
    for name, wanted in template.fields.items():
        value = given.get(name, wanted.default)
        if value is None:
            raise FieldFault(f"fields.{name}", "is missing")
        if not isinstance(value, (str, int)) or type(value) is not wanted.kind:
            what = "a string" if wanted.kind is str else "an integer"
            raise FieldFault(f"fields.{name}", f"must be {what}")
        size = len(value) if isinstance(value, str) else abs(value)
        if size > wanted.maximum:
            what = f"have at most {wanted.maximum} characters" if wanted.kind is str else f"be at most {wanted.maximum}"
            raise FieldFault(f"fields.{name}", f"must {what}, not {size}")
        values[name] = value
    return values


def render(kind: str, fields: Text, locale: str, channel: str) -> tuple[str, str]:
    """Title and body in the given language (its primary part, else English), no longer than the channel shows."""
    template = TEMPLATES[kind]
    language = locale.replace("_", "-").partition("-")[0].lower()
    title, body = template.texts.get(language, template.texts[DEFAULT_LOCALE])
    limit = CHANNEL_LENGTHS[channel]
    return (
        cut(" ".join(TextTemplate(title).safe_substitute(fields).split()), limit.title),
        cut(TextTemplate(body).safe_substitute(fields).strip(), limit.body),
    )


def cut(text: str, characters: int) -> str:
    """The text, truncated with an ellipsis if necessary."""
    return text if len(text) <= characters else text[: max(0, characters - 1)].rstrip() + "…"
