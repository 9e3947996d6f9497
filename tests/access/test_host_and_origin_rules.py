"""Rules for the Host and Origin headers of a local server, and for query strings."""

from __future__ import annotations

import pytest

from actors.access.rules import host_problem, origin_problem, query_problem
from actors.networks import is_loopback

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


@pytest.mark.parametrize("host", ["localhost.", "LOCALHOST.:8000", "127.0.0.1.", "[::1]:65535", "app.localhost.:1"])
def test_case_ports_and_the_final_dot_do_not_matter(host: str) -> None:
    assert host_problem(host, NONE) is None
    assert origin_problem(f"http://{host}", NONE) is None
    assert host_problem("box.lan", frozenset({"BOX.lan."})) is None
    assert host_problem("box.lan.:80", frozenset({"box.lan"})) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.",
        "localhost:evil.example",
        "localhost:99999",
        "localhost:-1",
        "localhost:8000@evil.example",
        "localhost/evil",
        "localhost?",
        "localhost#",
        "localhost\\evil.example",
        "localhost, evil.example",
        "localhost evil.example",
        "[::1]evil.example",
        "[::ffff:10.0.0.1]",
        "2130706433",
        "0x7f.1",
        ".",
        "..",
        "localhost..",
    ],
)
def test_what_only_looks_like_a_loopback_host_is_not_believed(host: str) -> None:
    assert host_problem(host, NONE)
    assert origin_problem(f"http://{host}", NONE)


def test_an_address_is_believed_where_other_machines_may_come() -> None:
    """A name can be rebound to another address (DNS rebinding); an address cannot."""
    assert host_problem("192.168.1.5:8000", NONE)
    assert host_problem("192.168.1.5:8000", NONE, allows_addresses=True) is None
    assert host_problem("[fd00::5]:8000", NONE, allows_addresses=True) is None
    assert host_problem("evil.example", NONE, allows_addresses=True)


@pytest.mark.parametrize(
    "query",
    [
        "token=x",
        "a=1&TOKEN=x",
        "access_token=",
        "api_key=x",
        "v=lv_0123456789ab_secret",
        "%74oken=x",
        "q=%6Cv_0123456789ab_x",
    ],
)
def test_a_token_in_an_address_is_refused_with_where_to_put_it(query: str) -> None:
    problem = query_problem(query)
    assert problem is not None
    assert "Authorization: Bearer" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("query", ["", "v=1", "a=token", "max_tokens=5", "&&==&", "%ff%fe", "q=lv_", "x" * 9000])
def test_other_queries_are_no_matter(query: str) -> None:
    assert query_problem(query) is None
