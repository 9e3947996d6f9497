"""Debian's Chromium, driven by Playwright-core in Node, for tests that are written in Python."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from tests.javascript.tools import chromium, npm_file

__all__ = ["Browser", "Page", "browser"]

SECONDS = 150.0


@define
class Browser:
    """A browser that does one thing after the other."""

    _process: trio.Process
    _received: bytes = b""
    _number: int = 0

    async def ask(self, **what: Any) -> Any:
        """One command of `drive.mjs`; fails with what the browser said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._number += 1
        with trio.fail_after(SECONDS):
            await self._process.stdin.send_all(json.dumps({"id": self._number, **what}).encode() + b"\n")
            while b"\n" not in self._received:
                chunk = await self._process.stdout.receive_some()
                assert chunk, "the browser ended"
                self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    async def is_there(self) -> bool:
        """Whether Chromium has started. Now and then it ends by SIGTRAP instead, and so does each that the same process starts."""
        try:
            await self.ask(page="", method="complaints")
        except (AssertionError, trio.BrokenResourceError):
            return False
        return True

    async def open(self, url: str, name: str = "one", **context: Any) -> Page:
        """A page with storage of its own."""
        await self.ask(page=name, method="open", arguments=[context])
        page = Page(self, name)
        await page.do("goto", url)
        return page


@define
class Page:
    """One page."""

    browser: Browser
    name: str = field()

    async def do(self, method: str, *given: Any) -> Any:
        """A method of the page."""
        return await self.browser.ask(page=self.name, method=method, arguments=list(given))

    async def at(self, selector: str, method: str, *given: Any) -> Any:
        """A method of what the selector finds."""
        return await self.browser.ask(page=self.name, selector=selector, method=method, arguments=list(given))

    async def beside(self, url: str, name: str) -> Page:
        """Another window of the same browser profile."""
        await self.browser.ask(page=name, method="beside", arguments=[self.name])
        page = Page(self.browser, name)
        await page.do("goto", url)
        return page

    async def evaluate(self, function: str, *given: Any) -> Any:
        """What a JavaScript function returns in the page."""
        return await self.do("evaluate", function, *given)

    async def until(self, function: str, *given: Any) -> None:
        """Wait until a JavaScript function returns something true."""
        await self.do("until", function, *given)

    async def until_text(self, selector: str, text: str) -> None:
        """Wait until an element that the selector finds contains the text."""
        await self.until(
            "(selector, text) => [...document.querySelectorAll(selector)].some((one) => one.textContent.includes(text))",
            selector,
            text,
        )

    async def complaints(self) -> list[str]:
        """Faults of scripts, errors in the console and violations of the policy, so far."""
        found: list[str] = await self.do("complaints")
        return found


LAUNCHES = 6


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser for one test."""
    npm_file("playwright-core")
    command = [str(npm_file(".bin/node")), str(Path(__file__).parent / "drive.mjs"), chromium()]
    for _ in range(LAUNCHES):
        async with _driven(command) as browser:
            if await browser.is_there():
                yield browser
                return
    pytest.fail(f"Chromium ended {LAUNCHES} times while it started")


@asynccontextmanager
async def _driven(command: list[str]) -> AsyncIterator[Browser]:
    process = await trio.lowlevel.open_process(
        command, stdin=-1, stdout=-1, env=None, cwd=Path(__file__).parents[1] / "javascript"
    )
    try:
        yield Browser(process)
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            with trio.move_on_after(20):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
