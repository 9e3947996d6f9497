"""The channels against real services: Web Push, APNs and webhooks over TLS, with every response that a service may give."""

import hashlib
import hmac
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from actors.notifications.messages import AckNoted, DescribePush, ListDevices, Resend
from protocol.events import Priority
from protocol.notifications import DeviceList
from runtime.testing import crash
from tests.notifications.push_services import CUT, HANG, Later, PushServices, apple_key
from tests.notifications.service_tree import RunningService, running_service
from tests.server_fixture import eventually

pytestmark = pytest.mark.integration
SECRET = "a secret of sixteen or more"


def settings(services: PushServices, folder: Path) -> dict[str, Any]:
    key_file = folder / "apple.p8"
    services.apple_public = apple_key(key_file).public_key()
    return {
        "push_ca_file": services.ca_file,
        "apns_key_file": key_file,
        "apns_key_id": "KEY1234567",
        "apns_team_id": "TEAM123456",
        "apns_topic": "org.example.app",
        "apns_url": services.url,
    }


async def register_all(service: RunningService, services: PushServices) -> None:
    await service.register("browser", platform="web", subscription=services.subscription("browser"))
    await service.register("iphone", platform="ios", token="ab" * 32, locale="de")
    await service.register("hook", platform="webhook", url=f"{services.url}/hook/mine", secret=SECRET)


PATHS = {"browser": "/push/browser", "iphone": f"/3/device/{'ab' * 32}", "hook": "/hook/mine"}


async def test_a_notification_reaches_browser_iphone_and_webhook(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        name = await service.post("Hello", body="wörld " * 600, priority=Priority.HIGH)
        await eventually(lambda: len(services.received) == 3)
        by_path = {one.path: one for one in services.received}
        browser, iphone, hook = (by_path[path] for path in PATHS.values())
        assert browser.payload["notification_id"] == hook.payload["notification_id"] == name
        assert browser.payload["badge"] == 1
        assert len(browser.payload["body"]) == 500
        assert browser.headers["urgency"] == "high"
        assert iphone.payload["notification_id"] == name
        assert iphone.payload["aps"]["alert"]["title"] == "Hello"
        assert iphone.payload["aps"]["interruption-level"] == "time-sensitive"
        assert iphone.headers["apns-topic"] == "org.example.app"
        signed = hook.headers["x-leanvibe-timestamp"].encode() + b"." + hook.raw
        expected = "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert hook.headers["x-leanvibe-signature"] == expected
        assert abs(int(hook.headers["x-leanvibe-timestamp"]) - time.time()) < 60
        for device_id in PATHS:
            await eventually(lambda device_id=device_id: _is(service, name, device_id, "sent"))


async def test_no_wait_between_two_tries_is_longer_than_the_setting_says(
    tmp_path: Path, services: PushServices
) -> None:
    services.plans[PATHS["hook"]].extend([500, 500])
    options = {**settings(services, tmp_path), "push_longest_retry_seconds": 1.0}
    async with running_service(tmp_path, schedule=None, **options) as service:
        await service.register("hook", platform="webhook", url=f"{services.url}{PATHS['hook']}", secret=SECRET)
        name = await service.post("Hello")
        tries = "SELECT attempts FROM notification_deliveries WHERE device_id = 'hook' AND state = 'pending'"
        await eventually(lambda: service.rows(tries) == [(2,)])
        ((due_ms,),) = service.rows("SELECT due_ms FROM notification_devices WHERE device_id = 'hook'")
        # Without the setting it would be four seconds, give or take a fifth.
        assert due_ms - 1000 * time.time() <= 1200
        await eventually(lambda: _is(service, name, "hook", "sent"))


async def _is(service: RunningService, name: str, device_id: str, state: str) -> bool:
    return await service.state(name, device_id) == state


async def test_the_key_is_made_at_first_need_and_is_nobody_elses(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        assert not (tmp_path / "vapid.pem").exists()
        key = (await service.dispatcher.ask(DescribePush(), timeout=60)).public_key
        assert stat.S_IMODE((tmp_path / "vapid.pem").stat().st_mode) == 0o600
        assert len(key) == 87
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        assert (await service.dispatcher.ask(DescribePush(), timeout=60)).public_key == key


@pytest.mark.parametrize("device_id", list(PATHS))
@pytest.mark.parametrize("trouble", [500, 503, CUT, Later("0")], ids=str)
async def test_trouble_that_passes_is_tried_again_in_order_with_the_same_id(
    tmp_path: Path, services: PushServices, device_id: str, trouble: Any
) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        path = PATHS[device_id]
        services.plans[path].extend([trouble, trouble])
        names = [await service.post(f"n{number}") for number in range(3)]
        await eventually(lambda: len(services.titles(path)) >= 3)
        assert services.titles(path) == ["n0", "n1", "n2"]
        assert services.requests.count(path) == 5
        assert [one.payload["notification_id"] for one in services.received if one.path == path] == names


async def test_a_service_that_asks_for_time_gets_it(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        # Twice, because a response may be lost, and then the request is repeated.
        services.plans["/push/browser"].extend([Later("1"), Later("1")])
        started = time.monotonic()
        await service.post("n")
        await eventually(lambda: services.titles("/push/browser"))
        assert services.received[-1].time - started >= 1.0


@pytest.mark.parametrize(("device_id", "status"), [("browser", 404), ("browser", 410), ("iphone", 410), ("hook", 410)])
async def test_a_service_that_knows_the_device_no_more_ends_it_and_everyone_hears_of_it(
    tmp_path: Path, services: PushServices, device_id: str, status: int
) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        services.plans[PATHS[device_id]].append(status)
        name = await service.post("n")

        async def devices() -> list[str]:
            listed = await service.dispatcher.ask(
                ListDevices(client_id="me", device_id="cli", data=DeviceList()), timeout=60
            )
            return [one.device_id for one in listed.devices]

        async def is_removed() -> bool:
            return device_id not in await devices()

        await eventually(is_removed)
        assert len(await devices()) == 2
        assert await service.state(name, device_id) == "discarded (the subscription is gone)"
        assert (await service.list()).notifications[0].title == f"Push to {device_id} has ended"
        others = [one for one in PATHS if one != device_id]
        await eventually(
            lambda: all(len(services.titles(PATHS[one])) == 2 for one in others), seconds=20, what="the others told"
        )


@pytest.mark.parametrize("device_id", list(PATHS))
@pytest.mark.parametrize("status", [400, 403, 413, 302])
async def test_a_refusal_for_good_is_a_dead_letter_that_can_be_sent_again(
    tmp_path: Path, services: PushServices, device_id: str, status: int
) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        path = PATHS[device_id]
        services.plans[path].append(status)
        name = await service.post("refused")
        await service.post("after")
        await eventually(lambda: services.titles(path) == ["after"])
        await eventually(lambda: _state_begins(service, name, device_id, f"dead (HTTP {status}"))
        assert "/push/elsewhere" not in services.requests
        assert (await service.dispatcher.ask(Resend(client_id="me", notification_id=name), timeout=60)).resent == 1
        await eventually(lambda: services.titles(path) == ["after", "refused"])


async def _state_begins(service: RunningService, name: str, device_id: str, beginning: str) -> bool:
    return (await service.state(name, device_id)).startswith(beginning)


async def test_apples_reason_is_told_and_an_expired_token_is_tried_again(
    tmp_path: Path, services: PushServices
) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        path = PATHS["iphone"]
        services.plans[path].extend([(403, {"reason": "ExpiredProviderToken"}), (400, {"reason": "BadTopic"})])
        name = await service.post("n")
        await eventually(lambda: _is(service, name, "iphone", "dead (HTTP 400: BadTopic)"))
        assert services.requests.count(path) == 2


async def test_without_a_key_of_apple_every_delivery_says_so(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, push_ca_file=services.ca_file) as service:
        await service.register("iphone", platform="ios", token="ab" * 32)
        name = await service.post("n")
        await eventually(lambda: _is(service, name, "iphone", "dead (this server has no APNs key)"))


async def test_a_service_that_hangs_holds_up_nobody_else(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        await service.register("second", platform="web", subscription=services.subscription("second"))
        services.plans["/push/browser"].append(HANG)
        await service.post("n")
        await eventually(lambda: len(services.received) == 3)
        assert services.titles("/push/second") == ["n"]


async def test_a_channel_that_crashes_stops_no_other_and_loses_nothing(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        services.plans["/push/browser"].append(HANG)
        await service.post("n")
        await eventually(lambda: "/push/browser" in services.requests)
        for _ in range(3):
            place = service.system.reference("notifications/web_push")
            await eventually(lambda place=place: place.current_incarnation() is not None)
            crash(service.system, "notifications/web_push", RuntimeError("on purpose"))
        await service.post("m")
        for path in ("/hook/mine", PATHS["iphone"], "/push/browser"):
            await eventually(lambda path=path: services.titles(path) == ["n", "m"], what=path)


@pytest.mark.parametrize("content", [None, "no key"])
async def test_a_wrong_key_file_of_apple_stops_only_that_channel(
    tmp_path: Path, services: PushServices, content: str | None
) -> None:
    wrong = tmp_path / "wrong.p8"
    if content is not None:
        wrong.write_text(content)
    async with running_service(tmp_path, **{**settings(services, tmp_path), "apns_key_file": wrong}) as service:
        await register_all(service, services)
        name = await service.post("n")
        reason = "the APNs key cannot be read"
        given_up = f"discarded (given up after 8 attempts: {reason})"
        await eventually(lambda: _is(service, name, "iphone", given_up))
        assert services.titles("/hook/mine") == services.titles("/push/browser") == ["n"]


async def test_acknowledgements_reach_the_database_through_the_dispatcher(
    tmp_path: Path, services: PushServices
) -> None:
    async with running_service(tmp_path) as service:
        names = [await service.post(f"n{number}") for number in range(3)]
        ack = AckNoted(client_id="me", device_id="laptop", seq=2)
        service.dispatcher.tell_nowait(ack)
        await eventually(lambda: _is(service, names[1], "", "delivered"))
        assert await service.state(names[1], "laptop") == "delivered"
        assert await service.state(names[2], "") == "sent"


async def test_what_quiet_hours_held_comes_when_they_end(tmp_path: Path, services: PushServices) -> None:
    async with running_service(tmp_path, **settings(services, tmp_path)) as service:
        await register_all(service, services)
        await service.prefer(rate_limit={"count": 1, "seconds": 1})
        for number in range(4):
            await service.post(f"n{number}")
        for path in PATHS.values():
            wanted = ["n0", "3 weitere Mitteilungen" if "device" in path else "3 more notifications"]
            await eventually(lambda path=path, wanted=wanted: services.titles(path) == wanted, what=path)
