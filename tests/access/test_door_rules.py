"""Which Host and Origin headers a local server believes."""

from __future__ import annotations

import pytest

from actors.access.access import Access
from actors.access.messages import CheckDoor, CheckIdentity, EntryRefused
from actors.access.rules import host_problem, is_loopback, origin_problem
from runtime.testing import run_handler

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "app.localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]"],
)
def test_loopback_names_and_addresses_are_known(host: str) -> None:
    assert is_loopback(host) is True


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com", "127.0.0.1.example.com", "127.1", "lo"],
)
def test_other_names_and_addresses_are_not_loopback(host: str) -> None:
    assert is_loopback(host) is False


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:80", "[::1]", "LocalHost:1"])
def test_a_loopback_host_is_believed(host: str) -> None:
    assert host_problem(host, NONE) is None


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1@evil.example", "[::1", "[x]"],
)
def test_another_host_is_not(host: str | None) -> None:
    assert host_problem(host, NONE)


def test_a_configured_host_is_believed_on_any_port() -> None:
    allowed = frozenset({"box.lan"})
    assert host_problem("box.lan:8000", allowed) is None
    assert host_problem("BOX.lan", allowed) is None
    assert host_problem("other.lan", allowed)


@pytest.mark.parametrize("origin", [None, "http://localhost", "https://127.0.0.1:8443", "http://[::1]:3000"])
def test_programs_and_pages_of_this_machine_pass(origin: str | None) -> None:
    assert origin_problem(origin, NONE) is None


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "file://",
        "file://localhost",
        "chrome-extension://abcdef",
        "localhost",
        "http://[::1",
    ],
)
def test_pages_from_elsewhere_do_not(origin: str) -> None:
    assert origin_problem(origin, NONE)


def test_a_configured_origin_passes_exactly_as_written() -> None:
    allowed = frozenset({"https://app.example"})
    assert origin_problem("https://app.example", allowed) is None
    assert origin_problem("http://app.example", allowed)
    assert origin_problem("https://app.example:444", allowed)


def test_a_long_header_is_not_repeated_whole() -> None:
    assert len(host_problem("h" * 5000, NONE) or "") < 200
    assert len(origin_problem("https://" + "h" * 5000, NONE) or "") < 200


async def test_the_access_actor_answers_by_the_rules() -> None:
    access = Access(allowed_hosts=frozenset({"box.lan"}), allowed_origins=frozenset({"https://app.example"}))
    good = await run_handler(access, CheckDoor(host="box.lan", origin="https://app.example"))
    assert good.error is None
    for door in (
        CheckDoor(host="evil.example", origin=None),
        CheckDoor(host="localhost", origin="https://evil.example"),
    ):
        refused = await run_handler(access, door)
        assert isinstance(refused.error, EntryRefused)
        assert refused.error.is_forbidden is True


async def test_a_token_that_nothing_checks_is_refused_as_unauthorized() -> None:
    access = Access(allowed_hosts=NONE, allowed_origins=NONE)
    assert (await run_handler(access, CheckIdentity(client_id="me"))).error is None
    refused = await run_handler(access, CheckIdentity(client_id="me", token="sesame"))
    assert isinstance(refused.error, EntryRefused)
    assert refused.error.is_forbidden is False
    assert "sesame" not in str(refused.error) + repr(CheckIdentity(client_id="me", token="sesame"))
