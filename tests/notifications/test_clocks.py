"""A wall clock that ran ahead and was corrected, or was set back: nothing waits longer than it would have."""

import base64
import json
from pathlib import Path

import jwt
import pytest

from actors.clock import ClockWatch, now_milliseconds
from actors.notifications import dispatcher
from actors.notifications import fan_out as planning
from actors.notifications.acks import ACKNOWLEDGE, Acknowledged, Acknowledgements
from actors.notifications.apns import ApnsCredentials, ProviderToken, expiration
from actors.notifications.clock_rules import IS_AHEAD, SETTLE, ClockRules
from actors.notifications.delivery_rules import Attempt, RetrySchedule
from actors.notifications.outbox import RECORD, RELEASE, ReleaseClient, Results
from actors.notifications.web_push import load_or_make_keys
from protocol.events import Priority
from protocol.notifications import Channel
from tests.notifications.push_services import PushServices, apple_key
from tests.notifications.service_tree import running_service
from tests.notifications.store_kit import START_MS, Service
from tests.server_fixture import eventually

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SCHEDULE = RetrySchedule(base_seconds=600, maximum_seconds=600, jitter=0.0)
RULES = ClockRules(longest_wait_ms=600_000, push_hold_ms=10_000)


class Clocks:
    """A wall clock that a test sets, and a steady one."""

    def __init__(self) -> None:
        self.steady = 100.0
        self.offset = 1_790_000_000.0
        self.watch = ClockWatch(lambda: self.steady + self.offset, lambda: self.steady)

    def pass_time(self, seconds: float, *, setting: float = 0.0) -> int:
        """Let time pass and set the wall clock by ``setting``. Returns what the watch reports."""
        self.steady += seconds
        self.offset += setting
        return self.watch.set_back_ms()


def test_only_a_clock_that_was_set_back_is_noticed_and_by_how_much() -> None:
    clocks = Clocks()
    assert clocks.pass_time(15) == 0
    assert clocks.pass_time(15, setting=-3600) == 3_600_000
    assert clocks.pass_time(15) == 0
    assert clocks.pass_time(15, setting=2 * 86400) == 0
    assert clocks.pass_time(15, setting=-2 * 86400) == 2 * 86_400_000


def test_a_clock_that_is_set_back_little_by_little_is_noticed_too() -> None:
    clocks = Clocks()
    told = [clocks.pass_time(15, setting=-0.4) for _ in range(6)]
    assert sum(told) == 2400
    assert told.count(0) == 4


def fail_once(service: Service, retry_after_seconds: float | None = None) -> None:
    """Fail one attempt on the phone."""
    page = service.device_queue()
    attempt = Attempt(reason="HTTP 503", retry_after_seconds=retry_after_seconds)
    service.transact(
        RECORD,
        Results(
            client_id="me",
            device_id="phone",
            channel=Channel.WEB_PUSH,
            address=page.address,
            attempts=((page.items[0].notification_id, attempt),),
            schedule=SCHEDULE,
        ),
    )


def test_a_next_try_from_a_time_to_come_is_due_at_the_next_start(service: Service) -> None:
    service.register()
    service.now_ms += 2 * DAY_MS
    service.post("while ahead")
    fail_once(service)
    service.now_ms -= 2 * DAY_MS
    assert service.look().device_queues == ()
    assert service.read(IS_AHEAD, RULES)
    assert service.transact(SETTLE, RULES) == 1
    assert service.look().device_queues == (("web_push", "me", "phone"),)
    assert not service.read(IS_AHEAD, RULES)


def test_a_next_try_that_is_no_further_than_the_longest_wait_keeps_its_time(service: Service) -> None:
    service.register()
    service.post("one")
    fail_once(service)
    assert not service.read(IS_AHEAD, RULES)
    service.transact(SETTLE, RULES)
    assert service.look().device_queues == ()
    assert service.look().next_ms == START_MS + 600_000


@pytest.mark.parametrize("asked_seconds", [None, 7200.0])
def test_a_clock_set_back_by_an_hour_leaves_each_wait_as_long_as_it_was(
    service: Service, asked_seconds: float | None
) -> None:
    service.register()
    service.post("one")
    fail_once(service, asked_seconds)
    wait_ms = 600_000 if asked_seconds is None else 7_200_000
    service.now_ms += 60_000 - HOUR_MS
    told = ClockRules(set_back_ms=HOUR_MS, longest_wait_ms=DAY_MS, push_hold_ms=0)
    assert service.read(IS_AHEAD, told)
    service.transact(SETTLE, told)
    assert service.look().next_ms == service.now_ms + wait_ms - 60_000


def test_what_was_held_ahead_is_judged_again_by_the_hour_that_it_is(service: Service) -> None:
    service.prefer(rate_limit={"count": 1, "seconds": 60})
    service.now_ms += 2 * DAY_MS
    service.post("ahead 1")
    name = service.post("ahead 2")
    assert service.state(name, "").startswith("held")
    service.now_ms -= 2 * DAY_MS
    service.transact(SETTLE, RULES)
    assert service.look().clients == ("me",)
    service.transact(RELEASE, ReleaseClient("me"))
    assert service.state(name, "").startswith("sent")


def test_quiet_hours_still_hold_after_they_were_judged_again(service: Service) -> None:
    service.prefer(quiet_hours={"start": "14:00", "end": "16:00"})
    name = service.post("quiet")
    due_ms = service.look().next_ms
    service.transact(SETTLE, RULES)
    service.transact(RELEASE, ReleaseClient("me"))
    assert service.state(name, "").startswith("held")
    assert service.look().next_ms == due_ms


def test_quiet_hours_that_have_not_begun_again_hold_nothing(service: Service) -> None:
    """What they held is sent if a clock set back by an hour is before them."""
    service.prefer(quiet_hours={"start": "14:00", "end": "16:00"})
    name = service.post("quiet")
    assert service.state(name, "").startswith("held")
    service.now_ms -= HOUR_MS
    service.transact(SETTLE, ClockRules(set_back_ms=HOUR_MS, longest_wait_ms=600_000, push_hold_ms=10_000))
    assert service.look().clients == ("me",)
    service.transact(RELEASE, ReleaseClient("me"))
    assert service.state(name, "").startswith("sent")


def test_what_was_sent_in_a_time_to_come_counts_against_no_rate(service: Service) -> None:
    service.prefer(rate_limit={"count": 2, "seconds": 60})
    service.now_ms += 2 * DAY_MS
    for number in range(2):
        service.post(f"ahead {number}")
    service.now_ms -= 2 * DAY_MS
    assert service.state(service.post("after 1"), "").startswith("sent")
    assert service.state(service.post("after 2"), "").startswith("sent")
    # Nor do they block those that count.
    assert service.state(service.post("after 3"), "").startswith("held")


def test_an_acknowledgement_from_a_time_to_come_is_no_sign_of_life(service: Service) -> None:
    service.push_hold_seconds = 10.0
    service.register()
    acknowledged = Acknowledged("me", "desk", 0, service.now_ms + DAY_MS)
    service.transact(ACKNOWLEDGE, Acknowledgements((acknowledged,)))
    assert service.state(service.post("after")).startswith("pending")


def claims(token: str) -> dict[str, float]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_a_token_for_a_push_service_that_a_fast_clock_made_is_made_anew(tmp_path: Path) -> None:
    keys, now = load_or_make_keys(tmp_path, "mailto:a@example.org"), 1_790_000_000.0
    for ahead_seconds in (60.0, 3600.0, 2 * 86400.0):
        keys.authorization("https://push.example/x", now + ahead_seconds)
        value = keys.authorization("https://push.example/x", now)
        assert now < claims(value.split("t=")[1].split(",")[0])["exp"] <= now + 24 * 3600 - 3600
        assert keys.authorization("https://push.example/y", now + 60) == value


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://push.example/x", "https://push.example"),
        ("HTTPS://Push.Example:443/x", "https://push.example"),
        ("https://push.example:8443/x", "https://push.example:8443"),
        ("https://[2606:4700::1]:8443/x", "https://[2606:4700::1]:8443"),
    ],
)
def test_a_token_names_the_origin_as_push_services_write_it(tmp_path: Path, endpoint: str, origin: str) -> None:
    value = load_or_make_keys(tmp_path, "mailto:a@example.org").authorization(endpoint, 1_790_000_000.0)
    body = value.split("t=")[1].split(",")[0].split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(body + "=="))["aud"] == origin


def test_a_token_for_apple_that_a_fast_clock_made_is_made_anew(tmp_path: Path) -> None:
    key_file = tmp_path / "key.p8"
    apple_key(key_file)
    credentials = ApnsCredentials(key_file=key_file, key_id="k", team_id="t", topic="a.b")
    now = 1_790_000_000.0
    token = ProviderToken(credentials, key_file.read_text())
    token.value(now + 2 * 86400)
    assert claims(token.value(now))["iat"] == now
    token.value(now + 3600)
    token.refused(now)
    assert claims(token.value(now))["iat"] == now
    # Apple must not see a correction of seconds: it allows one renewal in twenty minutes.
    assert token.value(now - 30) == token.value(now)


@pytest.mark.parametrize("created", [-2 * 86400.0, -3600.0, 0.0, 3600.0, 2 * 86400.0])
def test_apple_is_never_told_of_an_expiry_that_is_over_or_further_than_a_day(created: float) -> None:
    now = 1_790_000_000.0
    assert now + 3600 <= expiration(now + created, now) <= now + 86400


@pytest.mark.integration
@pytest.mark.parametrize("priority", [Priority.MEDIUM, Priority.CRITICAL])
async def test_a_clock_set_back_by_an_hour_delays_no_delivery_and_no_critical_one(
    tmp_path: Path, services: PushServices, monkeypatch: pytest.MonkeyPatch, priority: Priority
) -> None:
    ahead_ms = HOUR_MS
    for module in (dispatcher, planning):
        monkeypatch.setattr(module, "now_milliseconds", lambda: now_milliseconds() + ahead_ms)
    services.plans["/hook/mine"].append(503)
    schedule = RetrySchedule(base_seconds=1.5, maximum_seconds=1.5, jitter=0.0)
    async with running_service(tmp_path, schedule=schedule, push_ca_file=services.ca_file) as service:
        await service.register("hook", platform="webhook", url=f"{services.url}/hook/mine", secret="0123456789abcdef")
        await service.post("while ahead", priority=priority)
        waits = "SELECT attempts FROM notification_deliveries WHERE device_id = 'hook' AND state = 'pending'"
        await eventually(lambda: service.rows(waits) == [(1,)])
        ahead_ms = 0
        await service.post("after", priority=Priority.CRITICAL)
        await eventually(lambda: services.titles("/hook/mine") == ["while ahead", "after"])
