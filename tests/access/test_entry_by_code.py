"""The link that hands a token to the console: a code in its fragment, which the page of this very server presents to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from actors.access.messages import CreateToken, ListTokens, OfferToken, TokenOffer
from actors.errors import CommandError
from actors.rest.entry_by_code import is_same_origin
from runtime.testing import crash
from tests.server_fixture import RunningServer, eventually, running_server
from tests.system.restarting_server import restarting_server

ANN = CreateToken(client_ids=("ann", "bob"), name="phone")
PATH = "/console/enter"


async def offered(server: RunningServer, wanted: CreateToken = ANN) -> str:
    offer: TokenOffer = await server.system.reference("access").ask(OfferToken(wanted), timeout=60)
    return offer.code


async def tokens(server: RunningServer) -> list[str]:
    found = await server.system.reference("access").ask(ListTokens(), timeout=60)
    return [one.name for one in found if not one.is_local]


async def enter(server: RunningServer, body: Any, **headers: str) -> httpx.Response:
    async with server.http() as http:
        return await http.post(PATH, json=body, headers={"Origin": server.about.rest_url, **headers})


async def test_en3_a_link_makes_its_token_when_it_is_opened_and_once(engineless_server: RunningServer) -> None:
    code = await offered(engineless_server)
    assert await tokens(engineless_server) == []
    answer = await enter(engineless_server, {"code": code}, **{"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["client_id"] == "ann"
    assert await tokens(engineless_server) == ["phone"]
    async with engineless_server.http(headers={"Authorization": f"Bearer {answer.json()['token']}"}) as http:
        assert (await http.get("/tasks/bob")).status_code == 200
        assert (await http.get("/models")).status_code == 403, "the roles are those that were asked for"
    again = await enter(engineless_server, {"code": code})
    assert (again.status_code, "was used" in again.json()["detail"]) == (401, True)
    assert await tokens(engineless_server) == ["phone"]


async def test_en3_of_two_who_open_it_at_once_one_is_in(engineless_server: RunningServer) -> None:
    code = await offered(engineless_server)
    statuses: list[int] = []

    async def open_it() -> None:
        statuses.append((await enter(engineless_server, {"code": code})).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(open_it)
    assert sorted(statuses) == [200, 401, 401, 401, 401, 401]
    assert await tokens(engineless_server) == ["phone"]


async def test_en4_only_a_page_of_this_very_server_may_show_a_code(engineless_server: RunningServer) -> None:
    code = await offered(engineless_server)
    here = engineless_server.about.rest_url
    port = here.rpartition(":")[2]
    async with engineless_server.http() as http:
        for headers in (
            {},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": f"http://localhost:{port}"},
            {"Origin": "https://evil.example"},
            {"Origin": f"ftp://127.0.0.1:{port}"},
            {"Origin": here, "Sec-Fetch-Site": "same-site"},
            {"Origin": here, "Sec-Fetch-Site": "cross-site"},
        ):
            answer = await http.post(PATH, json={"code": code}, headers=headers)
            assert answer.status_code == 403, headers
        # A page of this machine that is allowed elsewhere gets nothing here either.
        for body in (
            b"{}",
            b"",
            b"[]",
            b'{"code": 1}',
            b'{"code": ""}',
            b"x" * 600,
            b'{"code": "' + b"x" * 129 + b'"}',
        ):
            answer = await http.post(PATH, content=body, headers={"Origin": here})
            assert answer.status_code in (400, 413, 422), body

        async def parts() -> Any:
            yield b'{"code": "x"}'

        assert (await http.post(PATH, content=parts(), headers={"Origin": here})).status_code == 413
        assert (await http.get(PATH)).status_code == 405
    assert await tokens(engineless_server) == []
    assert (await enter(engineless_server, {"code": code})).status_code == 200


def test_en4_an_origin_is_this_one_whatever_stands_before_the_server() -> None:
    assert is_same_origin("https://ai.example", "ai.example", None)
    assert is_same_origin("http://[::1]:8000", "[::1]:8000", "same-origin")
    assert is_same_origin("http://LocalHost:8000", "localhost:8000", None)
    for origin in (
        None,
        "",
        "null",
        "http://",
        "ai.example",
        "ws://ai.example",
        "http://ai.example:80",
        "http://x@ai.example",
    ):
        assert not is_same_origin(origin, "ai.example", None), origin
    assert not is_same_origin("http://", "", None)
    assert not is_same_origin("http://ai.example", None, None)


async def test_en5_guesses_are_slowed_down(engineless_server: RunningServer) -> None:
    code = await offered(engineless_server)
    statuses = [(await enter(engineless_server, {"code": f"guess-{number}"})).status_code for number in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    slowed = await enter(engineless_server, {"code": "guess-12"})
    assert 0 < int(slowed.headers["retry-after"]) <= 60
    # Who has the link is let in all the same.
    assert (await enter(engineless_server, {"code": code})).status_code == 200


async def test_en6_a_server_that_was_started_again_knows_no_link(engineless_server: RunningServer) -> None:
    code = await offered(engineless_server)
    before = engineless_server.incarnations()["access"]
    crash(engineless_server.system, "access", RuntimeError("for the test"))
    await eventually(lambda: engineless_server.incarnations()["access"] > before, what="started again")
    answer = await enter(engineless_server, {"code": code})
    assert (answer.status_code, "started again" in answer.json()["detail"]) == (401, True)


async def test_en3_what_would_be_refused_is_refused_before_there_is_a_link(engineless_server: RunningServer) -> None:
    for wrong in (CreateToken(client_ids=()), CreateToken(client_ids=("a",), expires_ms=1)):
        with pytest.raises(CommandError):
            await offered(engineless_server, wrong)


@pytest.mark.integration
async def test_en7_the_command_line_opens_the_browser_with_the_link_and_no_output_has_a_token(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {seen}\n')
    browser.chmod(0o700)
    settings = {"BROWSER": f"{browser} %s"}
    async with restarting_server(tmp_path / "data", **settings) as server:
        assert server.running is not None
        made = await trio.to_thread.run_sync(
            lambda: server.running.run("token", "create", "--client", "ann", "--open", **settings)
        )
        assert made.returncode == 0, made.stderr
        link = made.stdout.strip()
        assert link.startswith(f"{server.rest_url}/#/enter/")
        assert "It is open in the browser" in made.stderr
        assert "lv_" not in made.stdout + made.stderr
        assert seen.read_text().split() == [link]
        # Without a desktop the link is printed, and nothing takes over the terminal.
        told = await trio.to_thread.run_sync(
            lambda: server.running.run(
                "token", "create", "--client", "ann", "--open", BROWSER="", DISPLAY="", WAYLAND_DISPLAY=""
            )
        )
        assert "No browser was found here" in told.stderr
        assert seen.read_text().split() == [link]
        async with httpx.AsyncClient(base_url=server.rest_url, trust_env=False) as http:
            answer = await http.post(PATH, json={"code": link.rpartition("/")[2]}, headers={"Origin": server.rest_url})
            assert answer.json()["client_id"] == "ann"
        log = server.running.log.read_text()
        for line in (link, told.stdout.strip()):
            assert line.rpartition("/")[2] not in log
        assert answer.json()["token"] not in log


@pytest.mark.integration
async def test_en8_serve_opens_the_page_and_a_browser_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    hangs = tmp_path / "hangs"
    hangs.touch()
    browser.write_text(f'#!/bin/sh\necho "$1" >> {seen}\nwhile [ -e {hangs} ]; do sleep 0.1; done\n')
    browser.chmod(0o700)
    async with restarting_server(tmp_path / "data", "--open", BROWSER=f"{browser} %s") as server:
        await eventually(lambda: seen.exists() and seen.read_text().endswith("\n"), what="the browser")
        assert seen.read_text().strip() == f"{server.rest_url}/?client=system-test"
        command = ("token", "create", "--client", "ann", "--open", "--json")
        made = await trio.to_thread.run_sync(lambda: server.running.run(*command, BROWSER=f"{browser} %s"))
        assert json.loads(made.stdout)["is_opened"] is True
        assert await server.stop_in_order() == 0
    hangs.unlink()


async def test_en6_offers_are_counted_and_not_shown(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False) as server:
        code = await offered(server)
        shown = await server.snapshot("access")
        assert shown["offers"] == 1
        assert code not in str(shown)
