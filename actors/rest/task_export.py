"""Exports of tasks, read page by page while they are sent, so that memory does not grow with their size."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import attrs
from quart import Response

from actors.rest.answers import streamed_answer
from protocol.codec import encode, unstructure
from protocol.task_answers import TaskPage
from protocol.task_model import Task
from protocol.tasks import BULK_ITEMS, ImportedTask, TaskExport, TaskFilter, TaskList

__all__ = ["export_response", "importable", "spreadsheet_cell"]

FIELDS = tuple(one.name for one in attrs.fields(ImportedTask))
# Some programs accept full-width variants of these signs. Only spaces and quotation marks may precede one.
_FORMULA = re.compile('((?:^|[;|\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029])[\\s"\u00a0\ufeff]*)([=+\\-@＝＋－＠﹢﹣﹦﹫])')
ReadPage = Callable[[TaskList], Awaitable[TaskPage]]


async def export_response(wanted: TaskExport, read_page: ReadPage) -> Response:
    """Export all tasks that match the filter, oldest first, as JSON for an import or as CSV for a spreadsheet."""
    given = {one.name: getattr(wanted, one.name) for one in attrs.fields(TaskFilter)}
    listing = TaskList(**given, sort="created", order="ascending", limit=BULK_ITEMS)
    # Read before the response begins, so that an immediate failure still gets its own status.
    first = await read_page(listing)
    pages = _pages(listing, first, read_page)
    if wanted.format == "csv":
        response = streamed_answer(_as_csv(pages), "text/csv; charset=utf-8")
    else:
        response = streamed_answer(_as_json(pages), "application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="tasks.{wanted.format}"'
    return response


async def _pages(listing: TaskList, page: TaskPage, read_page: ReadPage) -> AsyncGenerator[TaskPage, None]:
    while True:
        yield page
        if page.next_cursor is None:
            return
        page = await read_page(attrs.evolve(listing, cursor=page.next_cursor))


async def _as_json(pages: AsyncGenerator[TaskPage, None]) -> AsyncGenerator[bytes, None]:
    separator = b'{"tasks":['
    async with aclosing(pages):
        async for page in pages:
            for task in page.tasks:
                yield separator + encode(importable(task))
                separator = b",\n"
    yield b"]}" if separator == b",\n" else separator + b"]}"


async def _as_csv(pages: AsyncGenerator[TaskPage, None]) -> AsyncGenerator[bytes, None]:
    text = io.StringIO()
    # Everything is quoted: other separators stay inside the quotation marks where a program honours them.
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(FIELDS)
    async with aclosing(pages):
        async for page in pages:
            for task in page.tasks:
                values = importable(task)
                writer.writerow([spreadsheet_cell(values.get(name)) for name in FIELDS])
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()


def importable(task: Task) -> dict[str, Any]:
    """Convert a task to the form that an import takes, without server data (version, times, analysis, decisions)."""
    values = {name: value for name, value in unstructure(task).items() if name in FIELDS}
    decision = values.get("agent_decision")
    if decision is not None:
        wanted = ("recommendation", "reasoning", "confidence", "requires_approval")
        values["agent_decision"] = {name: decision[name] for name in wanted}
        if not decision["recommendation"]:
            # Nothing was proposed; a person decided about the task itself.
            del values["agent_decision"]
    return values


def spreadsheet_cell(value: Any) -> str:
    """Format a value as a cell; lists become JSON. Text that a spreadsheet would run as a formula gets an apostrophe.

    The separator that a spreadsheet expects depends on its language, so a cell may also begin after `;`, `|`, a tab
    or a line break, and quotation marks there may be dropped. Within JSON the sign is escaped instead, so that the
    list stays valid.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return _FORMULA.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", encode([value]).decode()[1:-1])
    safe = _FORMULA.sub(r"\1'\2", value)
    return f"'{safe}" if safe.startswith(("\t", "\r", "\n")) else safe
