"""Child spec of the notifications service: a dispatcher, an engine monitor, and one child per channel."""

from __future__ import annotations

from collections.abc import Callable

from actors.notifications.apns import ApnsCredentials, ApnsSender
from actors.notifications.channel import ChannelSettings, Failpoint, PushChannel
from actors.notifications.delivery_rules import RetrySchedule
from actors.notifications.dispatcher import Dispatcher, DispatcherSettings, vapid_keys
from actors.notifications.engine_monitor import EngineMonitor
from actors.notifications.http_client import HttpClientSettings
from actors.notifications.in_app import InApp
from actors.notifications.sender import Sender
from actors.notifications.web_push import WebPushSender
from actors.notifications.webhook import WebhookSender
from actors.settings import Settings
from actors.storage.messages import Storage
from actors.tracing.tracer import Tracer
from protocol.notifications import Channel
from runtime import ActorSystem, Backoff, ChildSpec, SupervisorSpec

__all__ = ["spec"]


def spec(
    system: ActorSystem,
    settings: Settings,
    storage: Storage,
    tracer: Tracer | None = None,
    *,
    schedule: RetrySchedule | None = None,
    failpoint: Failpoint = lambda _: None,
) -> ChildSpec:
    """Restart one for one, so that a channel in a crash loop does not affect the others."""
    schedule = schedule or RetrySchedule(maximum_seconds=settings.push_longest_retry_seconds)
    http_client = HttpClientSettings(
        allow_private=settings.push_allow_private,
        ca_file=None if settings.push_ca_file is None else str(settings.push_ca_file),
    )
    of_dispatcher = DispatcherSettings(
        data_folder=settings.data_dir,
        push_contact=settings.push_contact,
        schedule=schedule,
        push_hold_seconds=settings.push_hold_seconds,
    )
    senders: dict[Channel, Callable[[], Sender]] = {
        Channel.WEB_PUSH: lambda: WebPushSender(http_client, vapid_keys(of_dispatcher)),
        Channel.APNS: lambda: ApnsSender(http_client, _credentials(settings)),
        Channel.WEBHOOK: lambda: WebhookSender(http_client),
    }
    dispatcher = system.reference("notifications/dispatcher")
    in_app = system.reference("notifications/in_app")
    places = {channel: system.reference(f"notifications/{channel.value}") for channel in senders}
    inference = system.reference("inference/inference")

    def push_channel(channel: Channel) -> ChildSpec:
        channel_settings = ChannelSettings(
            channel=channel,
            make_sender=senders[channel],
            schedule=schedule,
            failpoint=failpoint,
            tracer=tracer or Tracer(),
        )
        return ChildSpec(
            id=channel.value,
            start=lambda: PushChannel(channel_settings, storage, dispatcher),
            backoff=Backoff(base_seconds=0.25, maximum_seconds=10.0),
            is_helper=True,
        )

    tree = SupervisorSpec(
        # A wrong key file or a bug in one channel must not take the house down; back-off spaces its attempts.
        intensity=None,
        children=(
            ChildSpec(id="in_app", start=lambda: InApp(storage, dispatcher)),
            *(push_channel(channel) for channel in senders),
            ChildSpec(id="dispatcher", start=lambda: Dispatcher(of_dispatcher, storage, in_app, places)),
            ChildSpec(id="engine_monitor", start=lambda: EngineMonitor(inference, storage)),
        ),
    )
    return ChildSpec(id="notifications", start=tree, is_helper=True)


def _credentials(settings: Settings) -> ApnsCredentials | None:
    if settings.apns_key_file is None:
        return None
    return ApnsCredentials(
        key_file=settings.apns_key_file,
        key_id=settings.apns_key_id,
        team_id=settings.apns_team_id,
        topic=settings.apns_topic,
        url=settings.apns_url,
    )
