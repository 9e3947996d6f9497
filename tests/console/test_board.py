"""Board and notifications in Chromium: by keys, by mouse, against limits, and in two windows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.browser import Browser, Page
from tests.console.test_page import audit
from tests.server_fixture import RunningServer, eventually

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

COLUMNS = """() => Object.fromEntries([...document.querySelectorAll('[data-column]')].map((column) => [
  column.dataset.column, [...column.querySelectorAll('.card-title')].map((one) => one.textContent)]))"""


async def until_column(page: Page, column: str, titles: list[str]) -> None:
    await page.until(
        f"(column, titles) => JSON.stringify(({COLUMNS})()[column]) === JSON.stringify(titles)", column, titles
    )


async def test_pg18_a_board_is_one_in_two_windows_by_keys_and_by_mouse(
    engineless_server: RunningServer, browser: Browser
) -> None:
    url = f"{engineless_server.about.rest_url}/#/board"
    page = await browser.open(url)
    other = await page.beside(url, "two")
    for title in ("one", "two", "three"):
        await page.at("[data-column=backlog] .adder input", "fill", title)
        await page.do("press", "Enter")
        await page.until("() => document.querySelector('[data-column=backlog] .adder input').value === ''")
    await until_column(other, "backlog", ["one", "two", "three"])
    # By keys: the focus stays with the task.
    await page.at("[data-column=backlog] .card:nth-child(2) > div >> nth=0", "focus")
    await page.do("press", "Shift+ArrowUp")
    await until_column(other, "backlog", ["two", "one", "three"])
    await page.until("() => document.activeElement.getAttribute('aria-label') === 'two'")
    await page.until("() => document.querySelector('.pending') === null")
    await page.do("press", "Shift+ArrowRight")
    await until_column(other, "todo", ["two"])
    # By a button, and by the mouse in the other window.
    await page.until("() => document.querySelector('.pending') === null")
    await page.at('[aria-label="Move three right"]', "click")
    await until_column(other, "todo", ["two", "three"])
    await other.do("dragAndDrop", "[data-column=backlog] .card", "[data-column=in_progress] h3")
    await until_column(page, "in_progress", ["one"])
    async with engineless_server.http() as http:
        board: Any = (await http.get("/tasks/local/board")).json()
    stored = {column["status"]: [one["title"] for one in column["tasks"]] for column in board["columns"]}
    assert stored == await page.evaluate(COLUMNS) == await other.evaluate(COLUMNS)
    assert await page.complaints() == await other.complaints() == []


async def test_pg19_a_move_that_the_server_refuses_is_taken_back(
    engineless_server: RunningServer, browser: Browser
) -> None:
    async with engineless_server.http() as http:
        for status in ("todo", "in_progress"):
            assert (
                await http.post("/tasks/local", json={"title": f"in {status}", "status": status})
            ).status_code == 201
        limits = await http.put("/tasks/local/board", json={"limits": {"in_progress": 1}})
        assert limits.status_code == 200, limits.text
        page = await browser.open(f"{engineless_server.about.rest_url}/#/board", colorScheme="dark", bypassCSP=True)
        await page.until_text("[data-column=in_progress] .count", "1 of 1")
        await page.at('[aria-label="Move in todo right"]', "click")
        await page.until_text(".problem", "in todo was not moved")
        await until_column(page, "todo", ["in todo"])
        await until_column(page, "in_progress", ["in in_progress"])
        assert await audit(page) == []


async def test_pg20_the_inbox_is_live_and_is_marked_as_read(engineless_server: RunningServer, browser: Browser) -> None:
    url = f"{engineless_server.about.rest_url}/#/notifications"
    page = await browser.open(url, viewport={"width": 360, "height": 740}, bypassCSP=True)
    await page.until_text("main", "There are no notifications")
    async with engineless_server.http() as http:
        for number in (1, 2):
            body = {"template": "message", "fields": {"title": f"<b>{number}</b>", "body": "It is done."}}
            assert (await http.post("/notifications/local", json=body)).status_code < 300
        await page.until_text("nav .badge", "2")
        assert await page.evaluate(
            "() => [...document.querySelectorAll('.inbox h3')].map((one) => one.firstChild.data)"
        ) == [
            "<b>2</b>",
            "<b>1</b>",
        ]
        await page.at('[aria-label="Mark as read: <b>2</b>"]', "click")
        await page.until_text("nav .badge", "1")
        await page.at("text=Mark all as read", "click")
        await page.until_text("main", "Nothing is unread")

        async def is_read() -> bool:
            return bool((await http.get("/notifications/local/badge")).json()["unread"] == 0)

        await eventually(is_read, what="all read")
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert await audit(page) == []
