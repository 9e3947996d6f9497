"""The page that tells how other programs are connected, in Chromium."""

from __future__ import annotations

import pytest

from actors.access.messages import CreateToken, MadeToken
from tests.console.browser import Browser
from tests.console.test_page import audit
from tests.server_fixture import RunningServer

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

PASTED = "() => navigator.clipboard.readText()"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pg21_set_ups_are_copied_by_the_keyboard_and_fit_a_phone(
    engineless_server: RunningServer, browser: Browser, scheme: str
) -> None:
    url = engineless_server.about.rest_url
    size = {"width": 360, "height": 740}
    page = await browser.open(f"{url}/#/connect", viewport=size, colorScheme=scheme, bypassCSP=True)
    await page.do("permit", ["clipboard-read", "clipboard-write"])
    await page.until_text("[data-program=codex] pre", f'base_url = "{url}/v1"')
    assert "connect codex" in await page.at("[data-program=codex] .copied pre >> nth=0", "textContent")
    await page.at('[aria-label="Copy the command for Codex"] >> nth=0', "focus")
    await page.do("press", "Enter")
    await page.until_text("[data-program=codex] [role=status]", "Copied")
    assert await page.evaluate(PASTED) == await page.at("[data-program=codex] .copied pre >> nth=0", "textContent")
    await page.at("nav .chips button >> text=curl", "focus")
    await page.do("press", "Enter")
    assert await page.evaluate("() => document.activeElement.id") == "connect-curl"
    await page.do("press", "Tab")
    await page.do("press", "Tab")
    await page.do("press", "Enter")
    await page.until_text("[data-program=curl] [role=status]", "Copied")
    assert f"{url}/v1/chat/completions" in await page.evaluate(PASTED)
    await page.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true; }")
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert await audit(page) == []
    assert await page.complaints() == []


async def test_pg21_with_tokens_the_page_says_where_one_comes_from_and_shows_none(
    engineless_server: RunningServer, browser: Browser
) -> None:
    access = engineless_server.system.reference("access")
    made: MadeToken = await access.ask(CreateToken(client_ids=("ann",)), timeout=60)
    page = await browser.open(f"{engineless_server.about.rest_url}/?client=ann#/connect")
    await page.at("input[type=password]", "fill", made.token)
    await page.do("press", "Enter")
    await page.until_text("[data-program=codex] .then pre", "export LEANVIBE_TOKEN=…")
    assert made.token not in await page.do("content")
    assert await page.complaints() == []


async def test_pg22_a_page_that_cannot_be_fetched_says_so(engineless_server: RunningServer, browser: Browser) -> None:
    page = await browser.open(f"{engineless_server.about.rest_url}/")
    await page.until_text(".status", "connect")
    await page.do("offline", True)
    await page.evaluate("() => void (location.hash = '#/metrics')")
    await page.until_text("[role=alert]", "This page could not be fetched")
    await page.do("offline", False)
    await page.at("text=Load again", "click")
    await page.until("() => document.querySelectorAll('.figure').length > 0")
