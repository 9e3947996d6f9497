"""The pages of operators in Chromium: one server and one window for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.access.messages import CreateToken, MadeToken
from tests.console.browser import Browser, Page
from tests.console.test_page import audit
from tests.server_fixture import RunningServer, count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

PAGES = ("system", "requests", "metrics", "models", "access")
ENGINE = '[data-path="inference/engines/1"]'


async def show(page: Page, name: str) -> None:
    await page.evaluate("(name) => void (location.hash = `#/${name}`)", name)
    await page.until(
        "(name) => document.querySelector('nav [aria-current=page]').hash === `#/${name.split('/')[0]}`", name
    )


async def test_mo13_an_operator_sees_the_tree_breaks_the_engine_and_finds_it_told(
    tmp_path: Path, browser: Browser
) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.03) as server, server.peer(client_id="ann") as asker:
        page = await browser.open(f"{server.about.rest_url}/#/system")
        await page.until_text(f"{ENGINE} td:nth-child(2)", "idle")
        assert (
            await page.evaluate("() => document.querySelectorAll('tr[data-path]').length")
            == len(server.system.records()) + 1
        )
        await page.at("input[type=search]", "fill", "tasks")
        await page.until(
            "() => [...document.querySelectorAll('tr[data-path]')].every((one) => one.dataset.path.includes('tasks'))"
        )
        # A part is suspended, traced and let go on, by the keyboard.
        await page.at('[data-path="tasks"] button', "focus")
        await page.do("press", "Enter")
        await page.until_text(".panel h3", "tasks")
        await page.until_text(".panel pre", "analysing")
        await page.at("text=Trace 200 messages", "click")
        await page.until("() => document.querySelector('.trace') !== null")
        async with server.http() as http:
            await page.until("() => document.querySelector('[aria-pressed=true]') !== null")
            assert (await http.get("/tasks/ann")).status_code == 200
        await page.at("text=Suspend", "click")
        await page.at("text=Yes: Suspend", "click")
        await page.until_text('[data-path="tasks"] td', "suspended")
        await page.at("text=Let it go on", "click")
        await page.until_text('[data-path="tasks"] td', "idle")
        await page.at(".panel .actions button >> nth=0", "click")
        await page.at("text=Yes: Restart", "click")
        await page.until_text('[data-path="tasks"] td:nth-child(3)', "2")
        await page.at("input[type=search]", "fill", "")
        # Break it yourself: the tree says so, and the answer goes on.
        await asker.ask("generate", "g", {"prompt": "count to 80", "max_tokens": 400})
        await page.at("text=Kill the engine", "click")
        await page.at("text=Yes: Kill the engine", "click")
        await page.until_text(f"{ENGINE} td:nth-child(4)", "1")
        events = await asker.stream("g")
        assert "".join(one["data"].get("text", "") for one in events) == count_to(80)
        await show(page, "requests")
        await page.until_text("[data-request='1'] td:nth-child(6)", "stop")
        assert await page.at("[data-request='1'] td:nth-child(7)", "textContent") == "1"
        assert "queued" in await page.at("[data-request='1'] svg", "getAttribute", "aria-label")
        await show(page, "metrics")
        await page.until("() => document.querySelectorAll('.figure').length === 13")
        await page.until_text(".figure .value", "MiB")
        await show(page, "models")
        await page.until_text("[data-model=mock] .badge", "in use")
        await page.at("[data-model=mock-other] button", "click")
        await page.at("text=Yes: Load", "click")
        await page.until_text("[data-model=mock-other] .badge", "in use")
        await show(page, "access")
        await page.until_text("[data-device]", "ann, default")
        assert await page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_mo14_the_pages_of_operators_fit_a_phone_and_a_screen_reader(
    server: RunningServer, browser: Browser, scheme: str
) -> None:
    size = {"width": 360, "height": 740}
    page = await browser.open(
        f"{server.about.rest_url}/#/system/tasks", viewport=size, colorScheme=scheme, bypassCSP=True
    )
    await page.until("() => document.querySelector('.panel pre') !== null")
    for name in PAGES:
        if name != "system":
            await show(page, name)
            await page.until("() => document.querySelector('.operator-page').innerText.length > 20")
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360, name
        # What is wider scrolls within a frame of its own, and not the page.
        assert await page.evaluate("() => document.querySelector('.operator-page').scrollWidth") <= 360, name
        assert await audit(page) == [], name
    assert await page.complaints() == []


async def test_mo15_a_token_is_made_shown_once_and_revoked_and_who_is_no_operator_is_told_so(
    server: RunningServer, browser: Browser
) -> None:
    access = server.system.reference("access")
    operator: MadeToken = await access.ask(CreateToken(client_ids=("op",), roles=("operator",)), timeout=60)
    user: MadeToken = await access.ask(CreateToken(client_ids=("ann",)), timeout=60)
    page = await browser.open(f"{server.about.rest_url}/?client=op#/access")
    await page.at("input[type=password]", "fill", operator.token)
    await page.do("press", "Enter")
    await page.until_text("[data-token]", "operator")
    await page.at("[name=client]", "fill", "bob")
    await page.do("press", "Enter")
    await page.until_text(".made", "lv_")
    assert await page.evaluate("() => document.querySelectorAll('[data-token]').length") == 4
    made = await page.at(".made", "textContent")
    await page.at(f"[data-token='{made.split('_')[1]}'] button", "click")
    await page.at("text=Yes: Revoke", "click")
    await page.until_text("[data-token]", "revoked")
    other = await browser.open(f"{server.about.rest_url}/?client=ann#/system", "ann")
    await other.at("input[type=password]", "fill", user.token)
    await other.do("press", "Enter")
    await other.until_text(".problem", "This needs a token with the role operator")
    assert await page.complaints() == await other.complaints() == []
