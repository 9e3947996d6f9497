"""What the page makes of hostile text, of a narrow window, of the keyboard alone and of who hears it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.rest.console_files import console_bundle
from tests.console.browser import Browser, Page
from tests.javascript.tools import npm_file
from tests.server_fixture import RunningServer, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

DONE = ".turn.assistant[data-state=done]"
HOSTILE = """

<script>window.owned = 1</script>

<svg onload="window.owned = 1"></svg><img src=x onerror="window.owned=1">

[a](javascript:window.owned=1) [b](data:text/html,x) [c](JaVaScRiPt&colon;x) <javascript:x> [d](/push)

![i](https://evil.example/x.png) <!-- c --> [good](https://example.org/) <https://example.org/auto>

```py
print("<b>")
```"""


async def ask(page: Page, question: str) -> None:
    await page.at("#question", "fill", question)
    await page.until("() => !document.querySelector('.composer button.main').disabled")
    await page.do("press", "Enter")


async def test_pg13_text_of_a_model_is_only_ever_text(tmp_path: Path, browser: Browser) -> None:
    async with running_server(tmp_path) as server:
        page = await browser.open(f"{server.about.rest_url}/")
        await ask(page, f"x{HOSTILE}")
        await page.until_text(DONE, "print")
        answer = f"{DONE} .markdown"
        found = await page.evaluate(
            "(place) => [...document.querySelector(place).querySelectorAll('*')].map((one) => one.localName)", answer
        )
        assert {"script", "svg", "img", "iframe", "b"}.isdisjoint(found)
        links = await page.evaluate(
            "(place) => [...document.querySelectorAll(`${place} a`)].map((one) => one.getAttribute('href'))", answer
        )
        assert links == ["https://evil.example/x.png", "https://example.org/", "https://example.org/auto"]
        shown = await page.at(answer, "innerText")
        for part in (
            "<script>window.owned = 1</script>",
            "[a](javascript:window.owned=1)",
            "<!-- c -->",
            'print("<b>")',
        ):
            assert part in shown
        # Colours came as nodes.
        await page.until("(place) => document.querySelector(`${place} .hl-string`) !== null", answer)
        assert await page.evaluate("() => window.owned") is None
        assert await page.complaints() == []


async def test_pg14_text_that_is_slow_to_read_is_shown_as_it_stands(server: RunningServer, browser: Browser) -> None:
    page = await browser.open(f"{server.about.rest_url}/")
    hostile = {"line": "a*b_`[" * 33_000, "quotes": ">" * 20_000, "brackets": "[" * 100_000, "items": "- " * 10_000}
    for name, text in hostile.items():
        kinds = await page.evaluate(
            """async (bundle, text) => {
              const { lexed } = await import(`/console/${bundle}/blocks.js`);
              return lexed(text).map((one) => one.type);
            }""",
            console_bundle(),
            text,
        )
        assert kinds == ["plain"], name
    # What people write is read, however long it is.
    kinds = await page.evaluate(
        """async (bundle) => {
          const { lexed } = await import(`/console/${bundle}/blocks.js`);
          const text = "some **words**\\n\\n".repeat(2000) + "```\\n" + "x".repeat(20000) + "\\n```";
          return [...new Set(lexed(text).map((one) => one.type))].sort();
        }""",
        console_bundle(),
    )
    assert kinds == ["code", "paragraph", "space"]


async def test_pg15_finished_blocks_keep_their_objects_while_an_answer_grows(
    server: RunningServer, browser: Browser
) -> None:
    page = await browser.open(f"{server.about.rest_url}/")
    text = "# One\n\ntwo *three*\n\n- a\n\n- b\n\n```py\nx = 1\n\ny = 2\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nlast"
    told: dict[str, Any] = await page.evaluate(
        """async (bundle, text) => {
          const { BlockReader, lexed } = await import(`/console/${bundle}/blocks.js`);
          const reader = new BlockReader();
          let before = [], kept = true, fences = 0;
          for (let end = 1; end <= text.length; end++) {
            const now = reader.read(text.slice(0, end), false);
            const settled = before.slice(0, -2);
            kept &&= settled.every((one, index) => now[index] === one);
            fences += now.filter((one) => one.type === "paragraph" && one.raw.includes("`")).length;
            before = now;
          }
          const shape = (blocks) => blocks.map((one) => [one.type, one.raw]);
          return { kept, fences, same: JSON.stringify(shape(reader.read(text, true))) === JSON.stringify(shape(lexed(text))) };
        }""",
        console_bundle(),
        text,
    )
    assert told == {"kept": True, "fences": 0, "same": True}


async def test_pg16_each_sentence_is_told_once(server: RunningServer, browser: Browser) -> None:
    page = await browser.open(f"{server.about.rest_url}/")
    text = "Hello there. **Two**\nof *them*! And a list:\n\n- one\n- 2.5 and more"
    told = await page.evaluate(
        """async (bundle, text) => {
          const { takeSentences } = await import(`/console/${bundle}/sentences.js`);
          const all = [];
          let from = 0;
          for (let end = 1; end <= text.length; end++) {
            const { sentences, next } = takeSentences(text.slice(0, end), from, end === text.length);
            all.push(...sentences);
            from = next;
          }
          return all;
        }""",
        console_bundle(),
        text,
    )
    assert told == ["Hello there.", "Two of them !", "And a list:", "- one - 2.5 and more"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pg17_the_page_fits_a_phone_and_a_screen_reader(tmp_path: Path, browser: Browser, scheme: str) -> None:
    async with running_server(tmp_path) as server:
        size = {"width": 360, "height": 740}
        page = await browser.open(f"{server.about.rest_url}/", viewport=size, colorScheme=scheme, bypassCSP=True)
        await ask(
            page,
            "a table:\n\n| a long heading | another one | a third |\n|---|---|---|\n| 1 | 2 | 3 |\n\n```py\nx = 1\n```",
        )
        await page.until_text(f"{DONE} .figures", "tokens")
        wide = await page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= 360
        assert await audit(page) == []


async def audit(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    await page.do("script", {"path": str(npm_file("axe-core/axe.min.js"))})
    found: list[str] = await page.evaluate(
        """async () => (await axe.run()).violations.filter((one) => ["serious", "critical"].includes(one.impact))
          .map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`)"""
    )
    return found
