"""The console in Chromium where something is not as it should be: it says so, goes on, and is never blank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import create_engine, insert, update

from actors.assistant.tables import conversations, turns
from actors.assistant.turn_rows import choose_leaf, make_conversation
from actors.tasks.fractional_index import keys_between
from actors.tasks.tables import tasks
from tests.console.browser import Browser, Page
from tests.console.test_chat import DONE, ask
from tests.console.test_page import audit
from tests.database_fixture import fresh_database
from tests.server_fixture import RunningServer, count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

NODES = "() => document.querySelectorAll('*').length"
CARDS = "() => document.querySelectorAll('[data-column=backlog] .card').length"
MANY_TASKS, MANY_TURNS = 10_000, 5_000
MOST_NODES = 9_000
"""Of a page with as much on it as it shows at most."""
THROWS = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"
FORBIDDEN = """for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });"""


def an_hour(sign: int) -> str:
    """A clock that is an hour off, ahead or behind."""
    return f"const real = Date.now; Date.now = () => real() + {sign * 3_600_000};"


async def opened(browser: Browser, url: str, script: str, name: str = "one", **context: Any) -> Page:
    """A page in which something is otherwise from the beginning."""
    page = await browser.open("about:blank", name, **context)
    await page.do("addInitScript", {"content": script})
    await page.do("goto", url)
    return page


def fill_board(folder: Path, count: int) -> None:
    """A board as somebody's importer would leave it, in a database that no server has open."""
    plain = {"client_id": "local", "project": "default", "status": "backlog", "priority": 2, "tags": "[]", "version": 1}
    empty = {"attachments": "{}", "ai_analysis_status": "none", "search_text": ""}
    times = {"created_ms": 1, "updated_ms": 1, "entered_ms": 1}
    rows = [
        {**plain, **empty, **times, "id": str(UUID(int=number, version=4)), "title": f"task {number}", "position": key}
        for number, key in enumerate(keys_between(None, None, count))
    ]
    engine = create_engine(fresh_database(folder))
    with engine.begin() as connection:
        connection.execute(insert(tasks), rows)
    engine.dispose()


async def test_pg23_ten_thousand_tasks_are_a_page_that_can_be_used(tmp_path: Path, browser: Browser) -> None:
    fill_board(tmp_path, MANY_TASKS)
    async with running_server(tmp_path, wait=False) as server:
        page = await browser.open(f"{server.about.rest_url}/#/board")
        await page.until_text("[data-column=backlog]", f"{MANY_TASKS - 50} more are not shown here")
        assert await page.evaluate(CARDS) == 50
        for shown in (100, 150, 200):
            await page.at('[aria-label="Show more of Backlog"]', "click")
            await page.until(f"(shown) => ({CARDS})() === shown", shown)
        titles = await page.evaluate(
            "() => [...document.querySelectorAll('[data-column=backlog] .card-title')].map((one) => one.textContent)"
        )
        assert titles == [f"task {number}" for number in range(200)]
        assert await page.evaluate("() => document.querySelector('[aria-label=\"Show more of Backlog\"]')") is None
        assert await page.evaluate(CARDS) <= 200
        assert await page.evaluate(NODES) < MOST_NODES
        await page.at('[aria-label="Move task 0 right"]', "click")
        await page.until_text("[data-column=todo] .card-title", "task 0")
        # What is made elsewhere counts, and what befalls a task that is not shown is in the next reading.
        async with httpx.AsyncClient(base_url=server.about.rest_url, timeout=60) as http:
            new = [{"create": {"title": f"new {number}", "status": "backlog"}} for number in range(100)]
            made = (await http.post("/tasks/local/bulk", json={"items": new})).raise_for_status().json()["items"]
            await page.until_text("[data-column=backlog] h3", f"{MANY_TASKS - 1 + 100}")
            renamed, deleted = (f"/tasks/local/{made[one]['task']['id']}" for one in (50, 99))
            (await http.patch(renamed, json={"title": "renamed", "version": 1})).raise_for_status()
            (await http.delete(deleted, headers={"If-Match": '"1"'})).raise_for_status()
            await page.until_text("[data-column=backlog] h3", f"{MANY_TASKS - 1 + 99}")
        assert await page.complaints() == []


def fill_conversation(folder: Path, name: str, count: int) -> None:
    """A conversation as a chat of years would leave it, in a database that no server has open."""
    rows = [
        {
            "client_id": "local",
            "name": name,
            "number": number,
            "parent": number - 1,
            "role": "user" if number % 2 else "assistant",
            "content": f"turn {number}",
            "is_partial": False,
            "bytes": 9,
            "time_ms": 1,
        }
        for number in range(1, count + 1)
    ]
    engine = create_engine(fresh_database(folder))
    with engine.begin() as connection:
        make_conversation(connection, "local", name, 1)
        connection.execute(insert(turns), rows)
        connection.execute(update(conversations).values(last_turn=count, bytes=9 * count))
        choose_leaf(connection, "local", name, count)
    engine.dispose()


async def test_pg24_five_thousand_turns_are_read_in_parts(tmp_path: Path, browser: Browser) -> None:
    fill_conversation(tmp_path, "long", MANY_TURNS)
    async with running_server(tmp_path) as server:
        page = await browser.open(f"{server.about.rest_url}/")
        await page.at(".list li a", "click")
        await page.until_text(".turn", f"turn {MANY_TURNS}")
        shown = "() => document.querySelectorAll('.turn').length"
        assert await page.evaluate(shown) == 100
        for number in range(1, 5):
            await page.at("text=Show older turns", "click")
            await page.until_text(".turn", f"turn {MANY_TURNS - 100 * (number + 1) + 1}")
            assert await page.evaluate(shown) == min(300, 100 * (number + 1))
        assert await page.evaluate(NODES) < MOST_NODES
        await page.until_text(".note", "The newest turns are left out here")
        # What is asked then stands behind the last turn of all.
        await ask(page, "count to 5")
        await page.until_text(DONE, count_to(5))
        await page.until_text(".turn", f"turn {MANY_TURNS}")
        assert await page.evaluate("() => document.querySelector('.ways [aria-label=\"ways from here\"]')") is None
        assert await page.complaints() == []


@pytest.mark.parametrize(("sign", "words"), [(1, "ahead of"), (-1, "behind")])
async def test_pg25_a_clock_that_is_an_hour_off_is_told_and_stops_nothing(
    tmp_path: Path, browser: Browser, sign: int, words: str
) -> None:
    async with running_server(tmp_path) as server:
        page = await opened(browser, f"{server.about.rest_url}/", an_hour(sign))
        await page.until_text(".banner", f"is 60 minutes {words} the server's")
        await ask(page, "count to 5")
        await page.until_text(DONE, count_to(5))
        right = await browser.open(f"{server.about.rest_url}/", "right")
        await right.until_text(".status", "mock: ready")
        assert await right.evaluate("() => document.querySelectorAll('.banner').length") == 0
        assert await page.complaints() == await right.complaints() == []


@pytest.mark.parametrize("script", [THROWS, FORBIDDEN], ids=["full", "forbidden"])
async def test_pg26_storage_that_is_full_or_forbidden_is_told_and_costs_memory_alone(
    tmp_path: Path, browser: Browser, script: str
) -> None:
    async with running_server(tmp_path) as server:
        size = {"width": 360, "height": 740}
        page = await opened(browser, f"{server.about.rest_url}/?client=ann", script, viewport=size, bypassCSP=True)
        await page.until_text(".banner", "This browser keeps nothing for this page")
        await ask(page, "count to 5")
        await page.until_text(DONE, count_to(5))
        async with server.http() as http:
            assert len((await http.get("/conversations/ann")).json()["conversations"]) == 1
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
        assert await audit(page) == []
        assert await page.complaints() == []


async def test_pg26_an_old_page_without_storage_is_not_loaded_again_for_ever(
    engineless_server: RunningServer, browser: Browser
) -> None:
    page = await browser.open("about:blank")
    await page.do("addInitScript", {"content": FORBIDDEN})
    await page.do("fulfil", "**/console/version", '{"bundle": "0000000000000000"}')
    await page.do("goto", f"{engineless_server.about.rest_url}/")
    await page.until_text(".banner", "The server has a newer page than this one")
    assert await page.evaluate("() => performance.getEntriesByType('navigation')[0].type") == "navigate"


async def test_pg28_a_page_that_fails_says_so_beside_the_rest(
    engineless_server: RunningServer, browser: Browser
) -> None:
    page = await browser.open("about:blank")
    await page.do("fulfil", "**/programs?*", json.dumps({"programs": None}))
    await page.do("goto", f"{engineless_server.about.rest_url}/#/connect")
    await page.until_text("[role=alert]", "This page failed")
    await page.evaluate("() => void (location.hash = '#/board')")
    await page.until_text("[data-column=backlog] h3", "Backlog")
