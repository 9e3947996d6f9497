"""The console over HTTP: the page, its files, and what a program is told that asks for `/`."""

from __future__ import annotations

import gzip
import re

from actors.rest.console import CONTENT_SECURITY
from actors.rest.console_files import FOLDER, console_bundle, console_files
from tests.server_fixture import RunningServer

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_pg3_the_page_is_served_with_a_policy_that_allows_nothing_from_elsewhere(
    engineless_server: RunningServer,
) -> None:
    async with engineless_server.http() as http:
        page = await http.get("/", headers=BROWSER)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = dict(one.split(" ", 1) for one in CONTENT_SECURITY.split("; "))
        assert policy["default-src"] == "'none'"
        assert (policy["script-src"], policy["style-src"]) == ("'self'", "'self'")
        assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
        assert page.headers["content-security-policy"] == CONTENT_SECURITY
        assert page.headers["cache-control"] == "no-cache"
        named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(named) >= 3
        assert set(named) <= set(console_files())
        # No script and no style in the page itself.
        assert re.findall(r"<script[^>]*>([^<]+)<|<style|\son\w+=|\sstyle=", page.text) == []


async def test_pg4_programs_that_ask_for_the_root_are_told_in_json(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        for accept in ("*/*", "application/json", "application/json, text/html;q=0.5", None):
            http.headers.pop("Accept", None)
            answer = await http.get("/", headers={} if accept is None else {"Accept": accept})
            assert answer.headers["content-type"] == "application/json", accept
            assert answer.json()["pages"]["rest"] == "/docs"
            assert "Accept" in answer.headers["vary"]
        assert (await http.head("/", headers=BROWSER)).status_code == 200
        assert (await http.post("/", json={})).status_code == 405


async def test_pg5_files_are_a_fixed_list_under_the_hash_of_them_all(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        assert (await http.get("/console/version")).json()["bundle"] == console_bundle()
        for path, file in console_files().items():
            answer = await http.get(path, headers={"Accept-Encoding": "identity"})
            assert (answer.status_code, answer.content) == (200, file.content), path
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "content-encoding" not in answer.headers
        some = f"/console/{console_bundle()}/app.js"
        packed = await http.get(some, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == console_files()[some].content
        assert gzip.decompress(console_files()[some].compressed) == packed.content
        again = await http.get(some, headers={"If-None-Match": packed.headers["etag"], "Accept-Encoding": "gzip"})
        assert again.status_code == 304
        for path in (
            some.replace(console_bundle(), "0" * 16),
            f"/console/{console_bundle()}/vendor/VENDORED.toml",
            f"/console/{console_bundle()}/../auth.py",
            f"/console/{console_bundle()}/%2e%2e/auth.py",
            f"/console/{console_bundle()}/index.html",
            "/console/app.js",
            "/console/",
        ):
            assert (await http.get(path)).status_code == 404, path


def test_pg5_every_module_that_a_file_names_is_served() -> None:
    served = set(console_files())
    for path, file in console_files().items():
        if "/vendor/" in path or not path.endswith(".js"):
            continue
        folder = path.rpartition("/")[0]
        for named in re.findall(r'(?:from|import\()\s*"\./([^"]+)"', file.content.decode()):
            assert f"{folder}/{named}" in served, (path, named)


def test_no_module_makes_markup_or_scripts_out_of_text() -> None:
    for one in FOLDER.glob("*.js"):
        text = one.read_text(encoding="utf-8")
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
        assert len(text.splitlines()) <= 400, one.name
