"""The link that lets a browser in, in Chromium: in no address, once, and with a sentence where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.access.messages import CreateToken, OfferToken, TokenOffer
from tests.console.browser import Browser, Page
from tests.console.test_page import audit
from tests.server_fixture import RunningServer
from tests.system.restarting_server import restarting_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

KEPT = "(where, name) => (where === 'local' ? localStorage : sessionStorage).getItem(`leanvibe.${name}`)"


async def link(server: RunningServer) -> str:
    offer: TokenOffer = await server.system.reference("access").ask(
        OfferToken(CreateToken(client_ids=("ann",))), timeout=60
    )
    return f"{server.about.rest_url}/#/enter/{offer.code}"


async def is_in(page: Page) -> None:
    await page.until_text(".banner", "You are in as ann")
    await page.until("() => document.querySelector('.status').textContent !== 'a token is needed'")
    await page.until("() => document.querySelector('#question') !== null")


async def test_en9_a_link_lets_one_window_in_and_stands_in_no_address(
    engineless_server: RunningServer, browser: Browser
) -> None:
    address = await link(engineless_server)
    page = await browser.open(address, viewport={"width": 360, "height": 740}, bypassCSP=True)
    await is_in(page)
    code = address.rpartition("/")[2]
    assert code not in await page.evaluate("() => location.href")
    token = await page.evaluate(KEPT, "session", "token")
    assert token.startswith("lv_")
    assert token not in await page.evaluate("() => location.href")
    assert await page.evaluate(KEPT, "local", "token") is None
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert await audit(page) == []
    # Back leads to no address with the code in it.
    await page.do("reload")
    await page.until_text(".status", "mock: ")
    assert await page.evaluate("() => history.length") <= 2
    other = await browser.open(address, "two")
    await other.until_text("[role=alert]", "The link did not let you in: this link was used")
    await other.until_text("main h3", "This server needs a token")
    assert code not in await other.evaluate("() => location.href")
    assert await page.complaints() == []


async def test_en9_who_wants_stays_in_beyond_the_window_and_a_second_link_changes_who_is_in(
    engineless_server: RunningServer, browser: Browser
) -> None:
    page = await browser.open(await link(engineless_server))
    await is_in(page)
    await page.at("text=Stay in on this browser", "click")
    first = await page.evaluate(KEPT, "local", "token")
    assert first == await page.evaluate(KEPT, "session", "token")
    later = await page.beside(f"{engineless_server.about.rest_url}/", "later")
    await later.until("() => document.querySelector('#question') !== null")
    # A link that is opened in a window that has the page already.
    await later.evaluate("(hash) => void (location.hash = hash)", (await link(engineless_server)).partition("#")[2])
    await later.until(f"(first) => ![null, first].includes(({KEPT})('session', 'token'))", first)
    await later.until("() => document.querySelector('#question') !== null")
    assert await page.complaints() == await later.complaints() == []


async def test_en9_a_link_of_a_server_that_was_started_again_says_so(tmp_path: Path, browser: Browser) -> None:
    async with restarting_server(tmp_path) as server:
        assert server.running is not None
        made = server.running.run(
            "token", "create", "--client", "ann", "--open", BROWSER="", DISPLAY="", WAYLAND_DISPLAY=""
        )
        await server.stop_in_order()
        await server.start()
        page = await browser.open(made.stdout.strip())
        await page.until_text("[role=alert]", "the server was started again since")
        # There is no token yet, so this machine's page is in without.
        await page.until("() => document.querySelector('#question') !== null")
