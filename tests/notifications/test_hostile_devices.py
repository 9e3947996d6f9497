"""A hostile registration can fail only its own deliveries, and interrupted deliveries are resumed."""

import sqlite3
from pathlib import Path
from typing import Any

import httpcore2
import pytest
import trio

from actors.notifications.channel import DEVICES_OF_ONE_CLIENT
from actors.notifications.delivery_rules import retry_after_seconds
from actors.notifications.http_client import (
    AddressRefused,
    CheckedBackend,
    HttpClient,
    HttpClientSettings,
    RequestFailed,
)
from actors.notifications.ip_policy import deny_reason
from actors.storage.database import FILE_NAME
from protocol.events import Priority
from protocol.validation import address_problem
from runtime.testing import crash
from tests.notifications.push_services import HANG, PushServices
from tests.notifications.service_tree import RunningService, running_service
from tests.server_fixture import eventually

SECRET = "0123456789abcdef"
ODD_ADDRESSES = [
    "https://a..b/",
    "https://.example.org/",
    "https://" + "a" * 64 + ".example/",
    "https://" + "a.b" * 200 + "/",
    "https://-/",
    "https://a b/",
    "https://exa^mple/",
    "https://user@example.org/",
    "https://user:secret@example.org/",
    "https://example.org:0/",
    "https://example.org:65536/",
    "https://example.org:x/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::1/",
    "https://[not-an-address]/",
    "https://[v1.x]/",
    "https://bücher.example/",
    "https://example.org\\@inside/",
    "https://example.org/\x7f",
    "https://example.org/a\nb",
    "https://%31%32%37.0.0.1/",
    "https:///path",
    "https:example.org",
    "http://example.org/",
    "//example.org/",
    "",
]


@pytest.mark.parametrize("address", ODD_ADDRESSES)
def test_an_address_that_nobody_could_ask_for_is_refused_when_it_is_given(address: str) -> None:
    assert address_problem(address) is not None


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org",
        "HTTPS://Example.ORG/Path?x=1#f",
        "https://example.org.:8443/",
        "https://xn--bcher-kva.example/",
        "https://_service.example/",
        "https://[2606:4700:4700::1111]:443/x",
        "https://8.8.8.8/",
        "https://" + "a" * 63 + ".example/",
        "https://example.org:65535/%C3%A9?q=[1]",
    ],
)
def test_an_address_that_can_be_asked_for_is_taken(address: str) -> None:
    assert address_problem(address) is None


@pytest.mark.integration
async def test_ad2_an_address_in_capitals_is_delivered_to(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        address = services.url.replace("https://localhost", "HTTPS://LocalHost")
        assert address != services.url
        await service.register("hook", client_id="bob", platform="webhook", url=f"{address}/hook/bob", secret=SECRET)
        await service.post("a", client_id="bob")
        await eventually(lambda: services.titles("/hook/bob") == ["a"])


REFUSED_ADDRESSES = """
    0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 169.254.1.1 172.31.255.255 192.0.0.9 192.0.2.1 192.88.99.1 192.168.0.1
    198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255
    :: ::1 ::8.8.8.8 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 100::1 100:0:0:1::1 64:ff9b:1::808:808 200::1 1000::1 4000::1
    fec0::1 feff:ffff::1 fe80::1 fc00::1 fdff::1 fe00::1 ff02::1 e000::1 5f00::1
    2001::1 2001:1::1 2001:2::1 2001:3::1 2001:5::1 2001:10::1 2001:20::1 2001:30::1 2001:1ff:ffff::1 2001:db8::1
    2001:db8:ffff::1 3fff::1 3fff:fff::1
    2002:7f00:1:: 2002:a00:1:: 2002:c0a8:1:: 2002:c633:6401:: 64:ff9b::10.0.0.1 64:ff9b::192.0.2.1 64:ff9b::169.254.169.254
    2a00::5efe:127.0.0.1 2a00::5efe:a00:1 2a00:1:2:3:200:5efe:192.168.0.1 2001:4860::200:5efe:169.254.169.254
""".split()  # noqa: SIM905  a page of addresses is read more easily so
TAKEN_ADDRESSES = """
    1.1.1.1 8.8.8.8 93.184.215.14 192.31.196.1 193.0.0.1 198.17.255.255 198.20.0.1 223.255.255.255
    2000::1 2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00::1 3ffe::1 3fff:1000::1 64:ff9b::8.8.8.8 2002:808:808::
    2a00::5efe:8.8.8.8 2a00::5eff:127.0.0.1
""".split()  # noqa: SIM905  a page of addresses is read more easily so


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_no_special_range_is_the_public_internet(address: str) -> None:
    assert deny_reason(address) is not None


@pytest.mark.parametrize("address", TAKEN_ADDRESSES)
def test_what_borders_on_special_ranges_is_taken(address: str) -> None:
    assert deny_reason(address) is None


async def test_a_name_that_cannot_be_encoded_is_refused_and_raises_nothing_else() -> None:
    backend = CheckedBackend(allow_private=True)
    with pytest.raises(AddressRefused):
        await backend.connect_tcp("a..b", 443, timeout=5)


async def test_names_that_nobody_answers_for_leave_the_server_its_other_threads() -> None:
    """Lookups have threads of the channel's own; the twenty-fifth waits and fails at its deadline."""
    backend = CheckedBackend(allow_private=True)
    threads = trio.to_thread.current_default_thread_limiter()
    before = threads.borrowed_tokens
    with pytest.raises((httpcore2.ConnectError, httpcore2.ConnectTimeout)):
        await backend.connect_tcp("name.invalid", 443, timeout=5)
    assert threads.borrowed_tokens == before


@pytest.mark.parametrize(
    "header",
    ["Mon, 01 Jan 0001 00:00:00 -0000", "Fri, 31 Dec 9999 23:59:59 -2359", "9" * 5000, "", "-1", "soon", "\x00", "٣"],
)
def test_no_answer_of_a_receiver_is_more_than_an_answer(header: str) -> None:
    wait = retry_after_seconds(header, 1_790_000_000.0)
    assert wait is None or wait >= 0


async def test_an_authority_file_that_is_gone_fails_the_delivery_alone(tmp_path: Path) -> None:
    async with HttpClient(HttpClientSettings(ca_file=str(tmp_path / "gone.pem"))) as http_client:
        with pytest.raises(RequestFailed, match="authorities"):
            await http_client.post("https://example.org/", {}, b"")


async def hook(service: RunningService, services: PushServices, client_id: str = "bob") -> None:
    await service.register(
        "hook", client_id=client_id, platform="webhook", url=f"{services.url}/hook/{client_id}", secret=SECRET
    )


@pytest.mark.integration
@pytest.mark.parametrize("address", ["https://a..b/", "https://" + "a" * 64 + ".example/", "https://exa^mple/"])
async def test_one_clients_impossible_address_is_its_own_dead_letter(
    tmp_path: Path, services: PushServices, address: str
) -> None:
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        await hook(service, services)
        await service.register("w", platform="webhook", url="https://example.org/", secret=SECRET)
        # As stored by a version before the rule.
        with sqlite3.connect(tmp_path / FILE_NAME) as database:
            database.execute("UPDATE notification_devices SET address = ? WHERE device_id = 'w'", (address,))
        database.close()
        names = []
        for number in range(3):
            names.append(await service.post(f"a{number}", priority=Priority.CRITICAL))
            await service.post(f"b{number}", client_id="bob")
        await eventually(lambda: services.titles("/hook/bob") == ["b0", "b1", "b2"])
        for name in names:
            await eventually(lambda name=name: is_dead(service, name))
        assert service.system.record("notifications/webhook").incarnation == 1


async def is_dead(service: RunningService, name: str) -> bool:
    return (await service.state(name, "w")).startswith("dead (the address must be an https address")


@pytest.mark.integration
async def test_whatever_a_sender_raises_fails_that_delivery_alone(
    tmp_path: Path, services: PushServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HttpClient.post

    async def post(self: HttpClient, url: str, headers: Any, content: bytes) -> Any:
        if url.endswith("/hook/me"):
            raise ExceptionGroup("of a library", [KeyError("unforeseen")])
        return await real(self, url, headers, content)

    monkeypatch.setattr(HttpClient, "post", post)
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        await hook(service, services, "me")
        await hook(service, services)
        await service.post("a")
        await service.post("b", client_id="bob")
        await eventually(lambda: services.titles("/hook/bob") == ["b"])
        reasons = "SELECT reason FROM notification_deliveries WHERE client_id = 'me' AND device_id = 'hook'"
        await eventually(lambda: service.rows(reasons)[0][0] is not None)
        assert "the server could not send it: ExceptionGroup" in service.rows(reasons)[0][0]
        assert service.system.record("notifications/webhook").incarnation == 1


@pytest.mark.integration
async def test_a_delivery_under_way_is_taken_up_again_however_often_its_channel_ends(
    tmp_path: Path, services: PushServices
) -> None:
    """The second end comes before the new incarnation is monitored."""
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        await hook(service, services)
        place = service.system.record("notifications/webhook")
        for number in range(3):
            services.plans["/hook/bob"].append(HANG)
            await service.post(f"n{number}", client_id="bob")
            await eventually(lambda number=number: len(services.requests) > number)
            incarnation = place.incarnation
            crash(service.system, "notifications/webhook", RuntimeError("on purpose"))
            await eventually(
                lambda incarnation=incarnation: (
                    place.incarnation > incarnation and service.system.reference(place.path).is_running
                ),
                seconds=20,
            )
        await eventually(lambda: services.titles("/hook/bob") == ["n0", "n1", "n2"])


@pytest.mark.integration
async def test_devices_that_never_answer_hold_up_their_own_client_alone(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        for number in range(24):
            services.plans[f"/hook/ann{number}"].append(HANG)
            url = f"{services.url}/hook/ann{number}"
            await service.register(f"w{number}", client_id="ann", platform="webhook", url=url, secret=SECRET)
        await hook(service, services)
        await service.post("a", client_id="ann")
        await eventually(lambda: len(services.requests) == DEVICES_OF_ONE_CLIENT)
        await service.post("b", client_id="bob")
        await eventually(lambda: services.titles("/hook/bob") == ["b"], seconds=8)
        assert len(services.requests) == DEVICES_OF_ONE_CLIENT + 1
