"""Chat in Chromium: a first visit, what is asked there, and what becomes of an answer when a part of the way dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from actors.access.messages import CreateToken, MadeToken
from tests.console.browser import Browser, Page
from tests.server_fixture import count_to, running_server
from tests.system.restarting_server import restarting_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

DONE = ".turn.assistant[data-state=done]"
RUNNING = ".turn.assistant[data-state=running] .markdown"
SLOW = {"LEANVIBE_MOCK_STEP_SECONDS": "0.02"}
COUNT = 120


async def ask(page: Page, question: str) -> None:
    """As a person does, by the keyboard."""
    await page.at("#question", "fill", question)
    await page.until("() => !document.querySelector('.composer button.main').disabled")
    await page.do("press", "Enter")


async def answering(page: Page) -> None:
    """Wait until a good part of the answer is there."""
    await page.until_text(RUNNING, "11 12 13")


async def shown_answer(page: Page) -> str:
    """The text of the last answer."""
    text: str = await page.evaluate(
        "() => [...document.querySelectorAll('.turn.assistant .markdown')].at(-1).innerText"
    )
    return text


async def test_pg6_a_first_visit_asks_and_is_answered_and_finds_it_again(tmp_path: Path, browser: Browser) -> None:
    async with running_server(tmp_path) as server:
        page = await browser.open(f"{server.about.rest_url}/?client=ann")
        await page.until_text("header .status", "mock: ready")
        assert "client=" not in await page.evaluate("() => location.href")
        await ask(page, "count to 30")
        await page.until_text(DONE, count_to(30))
        figures = await page.at(".figures", "textContent")
        assert "tokens/s" in figures
        assert "first token after" in figures
        name = await page.evaluate("() => location.hash")
        assert name.startswith("#/chat/count-to-30-")
        async with server.http() as http:
            kept = (await http.get(f"/conversations/ann/{name.removeprefix('#/chat/')}")).json()
        assert [one["content"] for one in kept["turns"]] == ["count to 30", count_to(30)]
        await page.do("reload")
        await page.until_text(".turn.assistant", count_to(30))
        # A new conversation is empty; the old one is in the list.
        await page.at("button.new", "click")
        await page.until("() => document.querySelectorAll('.turn').length === 0")
        await page.at(".list li a", "click")
        await page.until_text(".turn.assistant", count_to(30))
        await page.at(".list li button", "click")
        await page.at(".list li button.danger", "click")
        await page.until("() => document.querySelectorAll('.list li').length === 0")
        assert await page.complaints() == []


async def test_pg7_a_page_that_is_loaded_again_goes_on_with_the_answer(tmp_path: Path, browser: Browser) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.02) as server:
        page = await browser.open(f"{server.about.rest_url}/")
        await ask(page, f"count to {COUNT}")
        await answering(page)
        await page.do("reload")
        await page.until("() => document.querySelector('.turn.assistant')?.dataset.state === 'running'")
        # A second window of the same person follows it, too.
        other = await page.beside(await page.evaluate("() => location.href"), "two")
        for one in (page, other):
            await one.until_text(DONE, f" {COUNT}")
            assert await shown_answer(one) == count_to(COUNT)
            assert await one.evaluate("() => document.querySelectorAll('.turn').length") == 2
        assert await page.complaints() == await other.complaints() == []


async def test_pg8_an_answer_is_stopped(tmp_path: Path, browser: Browser) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.02) as server:
        page = await browser.open(f"{server.about.rest_url}/")
        await ask(page, f"count to {COUNT}")
        await answering(page)
        await page.do("reload")
        await answering(page)
        await page.at("text=Stop", "click")
        await page.until_text(".turn.assistant[data-state=cancelled]", "You stopped this answer")
        await server.until_no_row_is_taken()
        assert count_to(COUNT).startswith(await shown_answer(page))
        await page.at("text=Answer again", "click")
        await page.until_text(".ways .count", "2 of 2")
        assert await page.evaluate("() => document.querySelectorAll('.turn.assistant').length") == 1
        assert await page.complaints() == []


async def test_pg9_a_killed_worker_is_told_in_the_answer(tmp_path: Path, browser: Browser) -> None:
    async with restarting_server(tmp_path, **SLOW) as server:
        page = await browser.open(f"{server.rest_url}/")
        await ask(page, f"count to {COUNT}")
        await answering(page)
        assert server.running is not None
        os.kill(await trio.to_thread.run_sync(server.running.worker_pid), signal.SIGKILL)
        await page.until_text(DONE, f" {COUNT}")
        assert await shown_answer(page) in (count_to(COUNT), f"{count_to(COUNT)}\n\n{await seam(page)}")
        assert "engine started again 1 time within it" in await page.at(".figures", "textContent")
        assert await page.complaints() == []


async def seam(page: Page) -> str:
    """What the page says where the engine died."""
    text: str = await page.at(".seam", "innerText")
    return text


async def test_pg10_a_killed_server_costs_an_answer_nothing(tmp_path: Path, browser: Browser) -> None:
    async with restarting_server(tmp_path, **SLOW) as server:
        page = await browser.open(f"{server.rest_url}/")
        await ask(page, f"count to {COUNT}")
        await answering(page)
        await server.kill()
        await page.until_text("header .status", "no connection")
        await server.start()
        await page.until_text(DONE, f" {COUNT}")
        assert (await shown_answer(page)).startswith(count_to(COUNT))
        # And so for a page that was loaded again while the server was away.
        await ask(page, f"count to {COUNT}")
        await page.until_text(RUNNING, "11 12 13")
        await server.kill()
        await server.start()
        await page.do("reload")
        # The second answer, and not the first while the second is not there yet.
        await page.until("(n) => document.querySelectorAll('.turn.assistant')[1]?.innerText.includes(n)", f" {COUNT}")
        assert (await shown_answer(page)).startswith(count_to(COUNT))


async def test_pg11_a_token_is_asked_for_and_not_put_into_the_address(tmp_path: Path, browser: Browser) -> None:
    async with running_server(tmp_path) as server:
        wanted = CreateToken(client_ids=("ann",), roles=("user",), name="test", expires_ms=None)
        made: MadeToken = await server.system.reference("access").ask(wanted, timeout=60)
        page = await browser.open(f"{server.about.rest_url}/")
        await page.until_text("main h3", "This server needs a token")
        await page.at("text=Token >> input", "fill", "lv_000000000000_wrong")
        await page.do("press", "Enter")
        await page.until_text("main .problem", "token")
        await page.at("input[type=password]", "fill", made.token)
        await page.at("text=Client >> input", "fill", "ann")
        await page.at("button:has-text('Connect')", "click")
        await ask(page, "count to 5")
        await page.until_text(DONE, count_to(5))
        assert made.token not in await page.evaluate("() => location.href")
        assert await page.evaluate("() => Object.keys(localStorage).includes('leanvibe.token')") is False
        await page.do("reload")
        await page.until_text(".turn.assistant", count_to(5))
        assert await page.complaints() == []


async def test_pg12_a_page_of_an_older_server_is_loaded_again_once(tmp_path: Path, browser: Browser) -> None:
    async with running_server(tmp_path, wait=False) as server:
        page = await browser.open("about:blank")
        # As a server of another version would answer: what it says never fits, so one reload must do.
        await page.do("fulfil", "**/console/version", '{"bundle": "0000000000000000"}')
        await page.do("goto", f"{server.about.rest_url}/")
        await page.until_text(".banner", "The server has a newer page than this one")
        assert await page.evaluate("() => performance.getEntriesByType('navigation')[0].type") == "reload"
        assert await page.complaints() == []


async def test_wa6_a_turn_is_edited_and_answered_again_and_every_way_stays(tmp_path: Path, browser: Browser) -> None:
    async with running_server(tmp_path) as server:
        page = await browser.open(f"{server.about.rest_url}/?client=ann")
        await ask(page, "count to 3")
        await page.until_text(DONE, count_to(3))
        await page.at("button.edit", "click")
        await page.at(".turn.edit textarea", "fill", "count to 5")
        await page.do("press", "Enter")
        await page.until_text(DONE, count_to(5))
        await page.until_text(".ways .count", "2 of 2")
        # Another window of the same client is told which way is chosen.
        other = await page.beside(await page.evaluate("() => location.href"), "two")
        await other.until_text(".turn.assistant", count_to(5))
        await page.at("[aria-label='Way before this one']", "click")
        for one in (page, other):
            await one.until_text(".turn.user", "count to 3")
            assert await one.evaluate("() => document.querySelectorAll('.turn').length") == 2
        await page.at("button.again", "click")
        await page.until("() => document.querySelectorAll('.ways .count').length === 2")
        await page.until_text(DONE, count_to(3))
        name = await page.evaluate("() => location.hash")
        async with server.http() as http:
            path = f"/conversations/ann/{name.removeprefix('#/chat/')}"
            kept = (await http.get(path, params={"all_ways": "true"})).json()["turns"]
        assert [(one["content"], one.get("parent"), one.get("is_beside")) for one in kept] == [
            ("count to 3", None, None),
            (count_to(3), 1, True),
            ("count to 5", None, True),
            (count_to(5), 3, True),
            (count_to(3), 1, None),
        ]
        assert await page.complaints() == await other.complaints() == []
