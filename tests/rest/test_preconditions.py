"""Entity tags and preconditions (RFC 9110, 13): the rules, and the routes that have something to compare."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from actors.errors import CommandError
from actors.rest.preconditions import (
    content_tag,
    holds_if_match,
    holds_if_none_match,
    read_condition,
    version_of,
)
from protocol.errors import ErrorCode
from tests.server_fixture import RunningServer

# --- rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        (['"3"'], ("3",)),
        (['W/"3"'], ("3",)),
        (['"3-gzip"', 'W/"4;br"'], ("3", "4")),
        (['"3--gzip"'], ("3",)),
        (['"a", "b" ,W/"c",,'], ("a", "b", "c")),
        (['"a,b"', '"c"'], ("a,b", "c")),
        (['""'], ("",)),
        (['"01"'], ("01",)),
        (['"gzip"'], ("gzip",)),
        (['"\xe9"'], ("\xe9",)),
        (["*"], ()),
        ([" * "], ()),
    ],
    ids=str,
)
def test_a_condition_is_read_as_the_tags_that_were_given(lines: list[str], tags: tuple[str, ...]) -> None:
    condition = read_condition(lines, "If-Match")
    assert condition is not None
    assert condition.tags == tags
    assert condition.is_any is (tags == ())


@pytest.mark.parametrize(
    "text",
    [
        "3",
        '"3',
        '3"',
        "",
        ",",
        '"3" "4"',
        'w/"3"',
        "W/3",
        '"3", *',
        "**",
        '"a b"',
        '"a\tb"',
        "'3'",
        ",".join(['"1"'] * 65),
    ],
)
def test_what_is_no_list_of_tags_is_a_bad_request_that_names_the_header(text: str) -> None:
    with pytest.raises(CommandError) as caught:
        read_condition([text], "If-None-Match")
    assert (caught.value.code, caught.value.field) == (ErrorCode.BAD_MESSAGE, "If-None-Match")


def test_no_header_is_no_condition() -> None:
    assert read_condition([], "If-Match") is None
    assert holds_if_match(None, None)
    assert holds_if_none_match(None, "3")


@pytest.mark.parametrize(
    ("text", "current", "if_match", "if_none_match"),
    [
        ('"3"', "3", True, False),
        ('"2", "3"', "3", True, False),
        ('"2"', "3", False, True),
        ("*", "3", True, False),
        ("*", None, False, True),
        ('"3"', None, False, True),
    ],
)
def test_a_condition_holds_for_what_is_there(
    text: str, current: str | None, if_match: bool, if_none_match: bool
) -> None:
    condition = read_condition([text], "If-Match")
    assert holds_if_match(condition, current) is if_match
    assert holds_if_none_match(condition, current) is if_none_match


@pytest.mark.parametrize(
    ("tag", "version"),
    [("3", 3), ("3-blocked", 3), ("", None), ("01", None), ("0", None), ("9999999999999999", None), ("a", None)],
)
def test_a_tag_of_a_task_names_its_version(tag: str, version: int | None) -> None:
    assert version_of(tag) == version


def test_a_tag_is_made_of_the_content_alone() -> None:
    assert content_tag(b"a") == content_tag(b"a") != content_tag(b"b")


# --- routes -------------------------------------------------------------------------------------------


async def made_task(http: httpx.AsyncClient, **fields: Any) -> str:
    made = await http.post("/tasks/me", json={"title": "x", **fields})
    assert made.status_code == 201, made.text
    return str(made.headers["location"])


@pytest.mark.integration
async def test_reading_by_tag_costs_no_body(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        here = await made_task(http)
        for path in (here, "/tasks/me", "/tasks/me/board", "/subscriptions/phone", "/notifications/me/preferences"):
            for method in ("GET", "HEAD"):
                whole = await http.request(method, path)
                tag = whole.headers["etag"]
                for known in (tag, f"W/{tag}", f'"x", {tag}', "*", tag[:-1] + '-gzip"'):
                    same = await http.request(method, path, headers={"If-None-Match": known})
                    assert (same.status_code, same.content) == (304, b""), (path, known)
                    assert same.headers["etag"] == tag
                    assert "content-length" not in same.headers
                    assert same.headers["vary"] == "Origin"
                assert (await http.request(method, path, headers={"If-None-Match": '"x"'})).status_code == 200
                assert (await http.request(method, path, headers={"If-Match": tag})).status_code == 200
                stale = await http.request(method, path, headers={"If-Match": '"x"'})
                assert stale.status_code == 412
                if method == "GET":
                    assert stale.json()["field"] == "If-Match"
        assert "etag" not in (await http.get("/health/live")).headers
        # A condition of what is not there is none.
        nowhere = await http.get("/tasks/me/00000000-0000-4000-8000-000000000000", headers={"If-None-Match": "*"})
        assert nowhere.status_code == 404


@pytest.mark.integration
async def test_a_task_is_written_at_the_version_that_a_condition_means(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        here = await made_task(http)
        version = 1

        async def patch(expected: int, *headers: tuple[str, str], body: dict[str, Any] | None = None) -> httpx.Response:
            nonlocal version
            response = await http.patch(here, json=body or {"description": f"v{version}"}, headers=list(headers))
            assert response.status_code == expected, (headers, response.text)
            version += expected == 200
            return response

        for text in ('"{}"', 'W/"{}"', '"{}-gzip"', 'W/"{}-gzip"', '"99", "{}"', "*"):
            await patch(200, ("If-Match", text.format(version)))
        await patch(200, ("If-Match", '"99"'), ("If-Match", f'"{version}"'))
        await patch(200, ("If-Match", f'"{version}"'), ("If-None-Match", '"99"'))
        await patch(200, ("If-Match", "*"), body={"title": "y", "version": version})
        for text in ('""', '"01"', '"9999999999999999"', '"98", "99"', '"x"', f'"{version - 1}"'):
            stale = await patch(412, ("If-Match", text))
            assert stale.json()["current"]["version"] == version
            assert stale.json()["field"] == "If-Match"
        for text in (f'"{version}"', f'W/"{version}-gzip"', "*"):
            known = await patch(412, ("If-Match", f'"{version}"'), ("If-None-Match", text))
            assert known.json()["field"] == "If-None-Match"
        for text in (str(version), f'"{version}', 'w/"1"'):
            assert (await patch(400, ("If-Match", text))).json()["field"] == "If-Match"
        await patch(400, ("If-Match", f'"{version}"'), ("If-None-Match", "1"))
        moved = await http.post(f"{here}/move", json={"status": "todo"}, headers={"If-Match": "*"})
        assert (moved.status_code, moved.headers["etag"]) == (200, f'"{version + 1}"')
        assert (await http.delete(here, headers={"If-Match": '"1", "2"'})).status_code == 412
        assert (await http.delete(here, headers={"If-Match": f'"1", W/"{version + 1}-br"'})).status_code == 200
        assert (await http.delete(here, headers={"If-Match": "*"})).status_code == 404


@pytest.mark.integration
async def test_a_change_to_whatever_version_there_is_gives_way_to_nobody(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        here = await made_task(http)
        codes: list[int] = []

        async def write(name: str) -> None:
            codes.append((await http.patch(here, json={"title": name}, headers={"If-Match": "*"})).status_code)

        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(write, name)
        assert codes == [200] * 4
        assert (await http.get(here)).json()["version"] == 5


@pytest.mark.integration
async def test_a_repeated_change_has_its_first_outcome_whatever_tag_came_with_it(
    engineless_server: RunningServer,
) -> None:
    async with engineless_server.http() as http:
        here = await made_task(http)
        for tag in ('"1"', '"1", "7"', "*", '"2"'):
            headers = {"If-Match": tag, "Idempotency-Key": "k"}
            again = await http.patch(here, json={"title": "once"}, headers=headers)
            assert (again.status_code, again.headers["etag"]) == (200, '"2"'), tag


@pytest.mark.integration
async def test_what_blocks_a_task_is_part_of_its_tag(engineless_server: RunningServer) -> None:
    """It changes without a version of its own, and an answer that was kept would be wrong."""
    async with engineless_server.http() as http:
        first = await made_task(http)
        second = await made_task(http, dependencies=[first.rpartition("/")[2]])
        blocked = (await http.get(second)).headers["etag"]
        await http.post(f"{first}/move", json={"status": "done"}, headers={"If-Match": '"1"'})
        free = await http.get(second, headers={"If-None-Match": blocked})
        assert (free.status_code, free.json()["is_blocked"]) == (200, False)
        assert free.headers["etag"] == '"1"' != blocked
        changed = await http.patch(second, json={"title": "y"}, headers={"If-Match": blocked})
        assert changed.status_code == 200


@pytest.mark.integration
async def test_settings_are_written_over_what_was_read_and_nothing_else(engineless_server: RunningServer) -> None:
    limits = [{"project": "default", "limits": {"todo": number}} for number in (3, 4)]
    for path, bodies in (
        ("/subscriptions/phone", [{"batch_ms": 10}, {"batch_ms": 20}]),
        ("/notifications/me/preferences", [{"locale": "de"}, {"locale": "en"}]),
        ("/tasks/me/board", limits),
    ):
        async with engineless_server.http() as http:
            seen = (await http.get(path)).headers["etag"]
            for tag, body in ((f"W/{seen}", bodies[0]), ("*", bodies[1]), ("*", bodies[0])):
                written = await http.put(path, json=body, headers={"If-Match": tag})
                assert written.status_code == 200, (path, written.text)
                after = (await http.get(path)).headers["etag"]
                assert written.headers.get("etag", after) == after != seen
            now = (await http.get(path)).headers["etag"]
            assert (await http.put(path, json=bodies[1], headers={"If-Match": '"x"'})).status_code == 412
            assert (await http.put(path, json=bodies[1], headers={"If-None-Match": now})).status_code == 412
            assert (await http.put(path, json=bodies[1], headers={"If-None-Match": "*"})).status_code == 412
            assert (await http.put(path, json=bodies[1], headers={"If-Match": now})).status_code == 200
            stale = await http.put(path, json=bodies[0], headers={"If-Match": now})
            assert (stale.status_code, stale.json()["field"]) == (412, "If-Match")
            assert (await http.put(path, json=bodies[0])).status_code == 200


@pytest.mark.integration
async def test_a_conversation_is_deleted_as_it_was_read(server: RunningServer) -> None:
    async with server.http() as http:

        async def say(text: str) -> None:
            body = {"type": "message", "content": text, "conversation": "talk"}
            assert (await http.post("/ai/process", json=body, headers={"X-Client-Id": "me"})).status_code == 200

        await say("one")
        here = "/conversations/me/talk"
        seen = (await http.get(here)).headers["etag"]
        part = (await http.get(here, params={"limit": 1})).headers["etag"]
        assert part != seen
        assert (await http.get(here, headers={"If-None-Match": seen})).status_code == 304
        await say("two")
        assert (await http.get(here, headers={"If-None-Match": seen})).status_code == 200
        for tag in (seen, part):
            assert (await http.delete(here, headers={"If-Match": tag})).status_code == 412
        part = (await http.get(here, params={"limit": 1})).headers["etag"]
        assert (await http.delete(here, headers={"If-Match": part[:-1] + '-gzip"'})).status_code == 200


@pytest.mark.integration
async def test_no_condition_of_a_write_is_passed_over(engineless_server: RunningServer) -> None:
    """What has no version is never at the one that a client names, and a collection is there."""
    async with engineless_server.http() as http:
        body = {"title": "x"}
        for headers, status in (
            ({"If-Match": '"1"'}, 412),
            ({"If-Match": "*"}, 201),
            ({"If-None-Match": "*"}, 412),
            ({"If-None-Match": '"1"'}, 201),
            ({"If-Match": "1"}, 400),
        ):
            assert (await http.post("/tasks/me", json=body, headers=headers)).status_code == status, headers
        device = {"device_id": "w", "platform": "webhook", "url": "https://example.com/", "secret": "0123456789abcdef"}
        assert (await http.post("/notifications/me/devices", json=device)).status_code == 201
        here = "/notifications/me/devices/w"
        assert (await http.delete(here, headers={"If-Match": '"1"'})).status_code == 412
        assert (await http.delete(here, headers={"If-Match": "*"})).status_code == 200
        refused = await http.post("/v1/completions", json={}, headers={"If-Match": '"1"'})
        assert (refused.status_code, refused.json()["error"]["param"]) == (412, "If-Match")
