"""Requests to URLs given by clients: public https addresses only, no redirects, no second lookup, no endless responses."""

import base64
import stat
import time
from pathlib import Path
from typing import Any

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from actors.notifications.apns import ApnsCredentials, ProviderToken
from actors.notifications.http_client import AddressRefused, HttpClient, HttpClientSettings, RequestFailed
from actors.notifications.ip_policy import deny_reason
from actors.notifications.sender import fitted
from actors.notifications.web_push import encrypted, load_or_make_keys, topic_of
from actors.notifications.webhook import signature
from tests.notifications.push_services import CUT, HANG, PushServices, apple_key


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata of most clouds
        "100.64.0.1",
        "100.100.100.200",  # metadata of another
        "192.0.0.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",  # metadata over IPv6
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
        "not an address",
    ],
)
def test_addresses_that_are_not_of_the_public_internet_are_refused(address: str) -> None:
    assert deny_reason(address) is not None


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_taken(address: str) -> None:
    assert deny_reason(address) is None


class Names:
    """A name server that gives planned answers, and counts queries."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"]])
async def test_a_name_that_leads_inside_is_refused_before_any_connection(answer: list[str]) -> None:
    names = Names(answer)
    async with HttpClient(HttpClientSettings(), resolve=names) as http_client:
        with pytest.raises(AddressRefused, match=r"inside\.example resolves to an address that is denied"):
            await http_client.post("https://inside.example/", {}, b"")
    assert names.asked == ["inside.example"]


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://0x7f000001/"])
async def test_an_address_in_place_of_a_name_is_checked_as_well(url: str) -> None:
    async with HttpClient(HttpClientSettings()) as http_client:
        with pytest.raises(AddressRefused):
            await http_client.post(url, {}, b"")


@pytest.mark.parametrize("url", ["http://a.example/", "ftp://a.example/", "file:///etc/passwd", "//a.example/"])
async def test_nothing_but_https_is_spoken(url: str) -> None:
    async with HttpClient(HttpClientSettings(), resolve=Names()) as http_client:
        with pytest.raises(AddressRefused, match="must be an https address"):
            await http_client.post(url, {}, b"")


async def test_the_connection_goes_to_the_address_that_was_checked_and_asks_no_second_time(
    services: PushServices,
) -> None:
    """A name server that would answer differently the second time (DNS rebinding) is asked only once."""
    names = Names(["127.0.0.1"])
    settings = HttpClientSettings(allow_private=True, ca_file=str(services.ca_file))
    async with HttpClient(settings, resolve=names) as http_client:
        assert (await http_client.post(f"{services.url}/hook/a", {}, b"{}")).status == 201
    assert names.asked == ["localhost"]


async def test_the_certificate_must_be_of_the_name_and_of_a_known_authority(services: PushServices) -> None:
    trusted = HttpClientSettings(allow_private=True, ca_file=str(services.ca_file))
    async with HttpClient(trusted, resolve=Names(["127.0.0.1"])) as http_client:
        with pytest.raises(RequestFailed, match="ConnectError"):
            await http_client.post(services.url.replace("localhost", "other.example") + "/hook/a", {}, b"{}")
    async with HttpClient(HttpClientSettings(allow_private=True)) as http_client:
        with pytest.raises(RequestFailed, match="ConnectError"):
            await http_client.post(f"{services.url}/hook/a", {}, b"{}")
    assert services.requests == []


@pytest.mark.parametrize("plan", [HANG, CUT])
async def test_an_answer_that_does_not_come_fails_at_the_deadline(services: PushServices, plan: str) -> None:
    settings = HttpClientSettings(allow_private=True, ca_file=str(services.ca_file), request_seconds=0.5)
    services.plans["/hook/a"].append(plan)
    async with HttpClient(settings) as http_client:
        with pytest.raises(RequestFailed):
            await http_client.post(f"{services.url}/hook/a", {}, b"{}")


async def test_a_redirect_is_an_answer_and_nothing_else(services: PushServices) -> None:
    settings = HttpClientSettings(allow_private=True, ca_file=str(services.ca_file))
    services.plans["/hook/a"].append(307)
    async with HttpClient(settings) as http_client:
        assert (await http_client.post(f"{services.url}/hook/a", {}, b"{}")).status == 307
    assert services.requests == ["/hook/a"]


async def test_no_more_of_an_answer_is_read_than_a_reason_needs(services: PushServices) -> None:
    settings = HttpClientSettings(allow_private=True, ca_file=str(services.ca_file))
    services.plans["/hook/a"].append((400, {"reason": "x" * 5_000_000}))
    async with HttpClient(settings) as http_client:
        answer = await http_client.post(f"{services.url}/hook/a", {}, b"{}")
    assert (answer.status, len(answer.body)) == (400, 8192)


@pytest.mark.parametrize("trouble", [[], OSError("no such host")])
async def test_a_name_that_does_not_resolve_may_do_so_later(trouble: Any) -> None:
    async with HttpClient(HttpClientSettings(), resolve=Names(trouble)) as http_client:
        with pytest.raises(RequestFailed):
            await http_client.post("https://nowhere.example/", {}, b"")


# --- keys and tokens ----------------------------------------------------------------------------------


def test_the_servers_key_is_kept_0600_and_its_token_lasts_less_than_a_day(tmp_path: Path) -> None:
    keys = load_or_make_keys(tmp_path, "mailto:me@example.org")
    assert stat.S_IMODE((tmp_path / "vapid.pem").stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["vapid.pem"]
    assert load_or_make_keys(tmp_path, "mailto:me@example.org").public_key == keys.public_key
    header = keys.authorization("https://push.example.org/send/abc")
    token = header.removeprefix("vapid t=").partition(",")[0]
    public = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), base64.urlsafe_b64decode(keys.public_key + "=")
    )
    claims = jwt.decode(token, public, algorithms=["ES256"], audience="https://push.example.org")
    assert time.time() < claims["exp"] <= time.time() + 24 * 3600
    assert claims["sub"] == "mailto:me@example.org"
    assert keys.authorization("https://push.example.org/send/other") == header
    assert keys.authorization("https://other.example.org/") != header
    assert keys.authorization("https://push.example.org/", time.time() + 11.5 * 3600) != header


def test_a_damaged_key_is_said_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "vapid.pem").write_text("damaged")
    with pytest.raises(ValueError):  # noqa: PT011  cryptography's own words
        load_or_make_keys(tmp_path, "mailto:me@example.org")
    assert (tmp_path / "vapid.pem").read_text() == "damaged"


def test_apples_token_is_used_between_20_and_60_minutes(tmp_path: Path) -> None:
    apple_key(tmp_path / "key.p8")
    credentials = ApnsCredentials(key_file=tmp_path / "key.p8", key_id="K", team_id="T", topic="t")
    token = ProviderToken(credentials, (tmp_path / "key.p8").read_text())
    first = token.value(1000.0)
    assert token.value(1000.0 + 39 * 60) == first
    token.refused(1000.0 + 19 * 60)
    assert token.value(1000.0 + 19 * 60) == first
    token.refused(1000.0 + 21 * 60)
    second = token.value(1000.0 + 21 * 60)
    assert second != first
    assert token.value(1000.0 + 62 * 60) != second
    assert jwt.get_unverified_header(first) == {"alg": "ES256", "kid": "K", "typ": "JWT"}


@given(st.binary(min_size=1, max_size=3993))
def test_any_payload_within_its_bound_is_one_record_that_the_receiver_can_read(payload: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    from cryptography.hazmat.primitives import serialization

    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    keys = (
        '{"p256dh":"'
        + base64.urlsafe_b64encode(point).decode()
        + '","auth":"'
        + base64.urlsafe_b64encode(b"a" * 16).decode()
        + '"}'
    )
    record = encrypted(payload, keys)
    assert len(record) == 86 + len(payload) + 17 <= 4096
    assert http_ece.decrypt(record, private_key=key, auth_secret=b"a" * 16) == payload


@given(st.text(max_size=6000), st.integers(40, 5000))
def test_text_is_cut_until_the_payload_fits(text: str, maximum_bytes: int) -> None:
    encoded = fitted(lambda body: {"title": "t", "body": body}, text, maximum_bytes)
    assert len(encoded) <= maximum_bytes


def test_what_does_not_fit_without_text_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="too many"):
        fitted(lambda body: {"title": "t" * 100, "body": body}, "text", 50)


def test_a_signature_covers_time_and_body() -> None:
    assert signature("k", "1", b"a") == signature("k", "1", b"a")
    assert (
        len({signature(*one) for one in (("k", "1", b"a"), ("l", "1", b"a"), ("k", "2", b"a"), ("k", "1", b"b"))}) == 4
    )
    assert len(topic_of("n" * 64)) <= 32
