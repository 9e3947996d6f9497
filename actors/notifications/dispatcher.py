"""The dispatcher: answers the service's requests and hands due deliveries to the channels."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog
import trio
from attrs import evolve, field, frozen

from actors.clock import ClockWatch, now_milliseconds
from actors.errors import CommandError
from actors.notifications.channel import DeliverQueue, QueueDelivered
from actors.notifications.clock_rules import IS_AHEAD, SETTLE, ClockRules
from actors.notifications.delivery_rules import RetrySchedule
from actors.notifications.history import (
    DEAD_LETTERS,
    HISTORY,
    MARK,
    RESEND,
    STATISTICS,
    DeliveryMark,
    Page,
    Resending,
)
from actors.notifications.in_app import ReleaseDone, ReleaseDue
from actors.notifications.messages import (
    AckNoted,
    CountNotifications,
    DescribePush,
    DeviceBegan,
    DispatcherRequest,
    ListDeadLetters,
    ListDevices,
    ListNotifications,
    MarkDelivery,
    NotificationRequest,
    PostNotification,
    PushKey,
    ReadAllNotifications,
    ReadHistory,
    ReadNotifications,
    ReadStatistics,
    RegisterDevice,
    RemoveDevice,
    Resend,
    TriggersCommitted,
    UsePreferences,
)
from actors.notifications.outbox import DUE_DELIVERIES, Due, DueDeliveriesQuery
from actors.notifications.store import (
    COUNT,
    LIST,
    LIST_DEVICES,
    POST,
    READ,
    READ_PREFERENCES,
    REGISTER,
    REMOVE,
    SET_PREFERENCES,
    Listing,
    Marking,
    OfDevice,
    Posting,
    PreferencesSet,
    Registering,
)
from actors.notifications.web_push import VapidKeys, load_or_make_keys
from actors.storage.messages import Operation, Query, Storage
from protocol.errors import ErrorCode
from protocol.notifications import Channel
from runtime import Actor, ActorRef, Down, RuntimeFault, SendFault, reject

__all__ = ["Dispatcher", "DispatcherSettings", "vapid_keys"]

_log = structlog.get_logger("notifications")

Message = TypeVar("Message")

LOOK_SECONDS = 15.0
"""Longest interval between polls."""
RETRY_SECONDS = 1.0
LANES_IN_FLIGHT = 64
"""Devices that one channel serves at a time; the others wait in the database."""
RELEASES_IN_FLIGHT = 64


@frozen
class Watch:
    """Timer: a channel may run again."""

    path: str


@frozen(kw_only=True)
class DispatcherSettings:
    """Settings of the dispatcher."""

    data_folder: Path
    """Folder of the Web Push key."""
    push_contact: str
    """`mailto:` or `https:` address in that key's tokens."""
    schedule: RetrySchedule = field(factory=RetrySchedule)
    """Retry schedule of the channels."""
    push_hold_seconds: float = 0.0
    """Hold time of a push that a device may show anyway."""


def vapid_keys(settings: DispatcherSettings) -> Callable[[], Awaitable[VapidKeys]]:
    """Return a function that loads the keys, or generates them, on first use. Each call returns an independent cache."""
    loaded: VapidKeys | None = None

    async def keys() -> VapidKeys:
        nonlocal loaded
        if loaded is None:
            loaded = await trio.to_thread.run_sync(load_or_make_keys, settings.data_folder, settings.push_contact)
        return loaded

    return keys


@frozen
class _Turn:
    """An assignment to a channel."""

    number: int
    incarnation: int
    """Incarnation of the channel."""


class Dispatcher(Actor[DispatcherRequest | QueueDelivered | ReleaseDone | Watch]):
    """Holds no state besides the devices that the channels are busy with; everything else is in the database."""

    mailbox = reject(2048)

    def __init__(
        self,
        settings: DispatcherSettings,
        storage: Storage,
        in_app: ActorRef[ReleaseDue | AckNoted | DeviceBegan],
        channels: Mapping[Channel, ActorRef[DeliverQueue]],
    ) -> None:
        self._storage = storage
        self._in_app = in_app
        self._channels = channels
        self._keys = vapid_keys(settings)
        self._busy: dict[Channel, dict[tuple[str, str], _Turn]] = {channel: {} for channel in channels}
        self._releasing: dict[str, _Turn] = {}
        self._turns = 0
        self._clock = ClockWatch(lambda: now_milliseconds() / 1000)
        self._rules = ClockRules(
            longest_wait_ms=round(settings.schedule.longest_seconds * 1000),
            push_hold_ms=round(settings.push_hold_seconds * 1000),
        )
        self._is_settled = False
        self._wake = trio.Event()
        self._looks = 0

    async def started(self) -> None:
        """Poll at once, which finds what became due while no dispatcher was running."""
        for one in self._places():
            self.context.monitor(one)
        self.context.spawn(self._plan)

    async def handle(self, message: Any) -> None:
        match message:
            case TriggersCommitted():
                self._wake.set()
            case AckNoted() | DeviceBegan():
                try:
                    self._in_app.tell_nowait(message)
                except SendFault:
                    # Cumulative: the device's next one covers it.
                    _log.debug("acknowledgement not recorded", client_id=message.client_id)
            case QueueDelivered(channel, client_id, device_id, number, is_recorded):
                turn = self._busy[channel].get((client_id, device_id))
                if turn is not None and turn.number == number:
                    del self._busy[channel][client_id, device_id]
                await self._wake_soon(is_good=is_recorded)
            case ReleaseDone(client_id, is_recorded):
                self._releasing.pop(client_id, None)
                await self._wake_soon(is_good=is_recorded)
            case Watch(path):
                self.context.monitor(next(one for one in self._places() if one.path == path))
                self._wake.set()
            case _:
                # A child task answers, so that no request waits for another's disk.
                self.context.answer_later(self._carry_out, message)

    async def down(self, down: Down) -> None:
        """A channel ended. Its devices are still due and are taken back at the next poll (`_take_back`)."""
        self.context.after(RETRY_SECONDS, Watch(down.path))

    def snapshot(self) -> dict[str, object]:
        """Number of devices that each channel is busy with."""
        busy = {channel.value: len(devices) for channel, devices in self._busy.items()}
        return {"busy": busy, "releasing": len(self._releasing), "looks": self._looks}

    def _places(self) -> list[ActorRef[Any]]:
        places: list[ActorRef[Any]] = [self._in_app, *self._channels.values()]
        return places

    # --- what is due --------------------------------------------------------------------------------------

    async def _wake_soon(self, *, is_good: bool) -> None:
        if is_good:
            self._wake.set()
        else:
            self.context.after(RETRY_SECONDS, TriggersCommitted())

    async def _plan(self) -> None:
        while True:
            wait_seconds = LOOK_SECONDS
            self._wake = trio.Event()
            try:
                await self._settle_clock()
                due = await self._storage.read(DUE_DELIVERIES, DueDeliveriesQuery(now_ms=now_milliseconds()))
                self._looks += 1
                self._hand_out(due)
                if due.next_ms is not None:
                    wait_seconds = min(LOOK_SECONDS, max(0.0, (due.next_ms - now_milliseconds()) / 1000))
            except (CommandError, RuntimeFault) as error:
                _log.warning("outbox not read", problem=str(error))
                await trio.sleep(RETRY_SECONDS)
            with trio.move_on_after(wait_seconds):
                await self._wake.wait()

    async def _settle_clock(self) -> None:
        """Correct times written by a clock that was ahead: at start, and when the clock is set back.

        Raises as storage does; the next poll then tries again.
        """
        set_back_ms = self._clock.set_back_ms()
        if set_back_ms:
            _log.warning("the clock was set back", seconds=set_back_ms / 1000)
            self._rules = evolve(self._rules, set_back_ms=self._rules.set_back_ms + set_back_ms)
            self._is_settled = False
        if self._is_settled:
            return
        if await self._storage.read(IS_AHEAD, self._rules):
            await self._storage.transact(SETTLE, self._rules, client_id="")
        self._rules = evolve(self._rules, set_back_ms=0)
        self._is_settled = True

    def _take_back(self) -> None:
        """Take back assignments to incarnations that have ended, however many ended in between."""
        for channel, busy in self._busy.items():
            current = self._channels[channel].incarnation
            for device_queue in [device_queue for device_queue, turn in busy.items() if turn.incarnation != current]:
                del busy[device_queue]
        current = self._in_app.incarnation
        for client_id in [one for one, turn in self._releasing.items() if turn.incarnation != current]:
            del self._releasing[client_id]

    def _hand_out(self, due: Due) -> None:
        self._take_back()
        for name, client_id, device_id in due.device_queues:
            channel = Channel(name)
            busy = self._busy.get(channel)
            if busy is None or (client_id, device_id) in busy or len(busy) >= LANES_IN_FLIGHT:
                continue
            place, turn = self._channels[channel], self._turn(self._channels[channel])
            if self._tell(place, DeliverQueue(client_id, device_id, turn.number)):
                busy[client_id, device_id] = turn
        for client_id in due.clients:
            if client_id in self._releasing or len(self._releasing) >= RELEASES_IN_FLIGHT:
                continue
            if self._tell(self._in_app, ReleaseDue(client_id)):
                self._releasing[client_id] = self._turn(self._in_app)

    def _turn(self, place: ActorRef[Any]) -> _Turn:
        self._turns += 1
        return _Turn(self._turns, place.incarnation)

    def _tell(self, place: ActorRef[Message], message: Message) -> bool:
        if not place.is_running:
            return False
        try:
            place.tell_nowait(message)
        except SendFault as fault:
            _log.debug("channel not reached", path=place.path, problem=type(fault).__name__)
            return False
        return True

    # --- what is asked ------------------------------------------------------------------------------------

    async def _carry_out(self, message: NotificationRequest) -> object:
        if isinstance(message, DescribePush):
            try:
                return PushKey(public_key=(await self._keys()).public_key)
            except (OSError, ValueError) as error:
                _log.error("the key for Web Push is unusable", problem=type(error).__name__)
                raise CommandError(ErrorCode.UNAVAILABLE, "this server's key for Web Push cannot be read") from error
        call = _call_of(message)
        if isinstance(call.what, Query):
            return await self._storage.read(call.what, call.command)
        key = getattr(message, "key", None)
        committed = await self._storage.transact(call.what, call.command, client_id=message.client_id, key=key)
        # A read mark, new preferences or a new address may have made something due, or superfluous.
        self._wake.set()
        return committed.value


@frozen
class _Call:
    """A query or an operation with its command."""

    what: Query[Any, Any] | Operation[Any, Any]
    command: Any


def _call_of(message: NotificationRequest) -> _Call:  # noqa: C901, PLR0912  a table of what carries out what
    """Return the storage call for a request."""
    match message:
        case ListNotifications():
            return _Call(LIST, Listing(client_id=message.client_id, data=message.data))
        case ReadNotifications():
            return _Call(
                READ,
                Marking(
                    client_id=message.client_id,
                    device_id=message.device_id,
                    notification_ids=tuple(message.data.notification_ids),
                    is_opened=message.data.opened,
                ),
            )
        case ReadAllNotifications():
            marking = Marking(client_id=message.client_id, device_id=message.device_id, notification_ids=None)
            return _Call(READ, marking)
        case UsePreferences(data=data):
            if data.preferences is None:
                return _Call(READ_PREFERENCES, OfDevice(client_id=message.client_id, device_id=data.device_id))
            wanted = PreferencesSet(client_id=message.client_id, device_id=data.device_id, preferences=data.preferences)
            return _Call(SET_PREFERENCES, wanted)
        case RegisterDevice(data=data):
            device_id = data.device_id or message.device_id
            return _Call(REGISTER, Registering(client_id=message.client_id, device_id=device_id, data=data))
        case ListDevices():
            return _Call(LIST_DEVICES, message.client_id)
        case RemoveDevice(data=data):
            return _Call(REMOVE, OfDevice(client_id=message.client_id, device_id=data.device_id))
        case PostNotification(data=data):
            posting = Posting(client_id=message.client_id, notification_id=str(uuid.uuid4()), data=data)
            return _Call(POST, posting)
        case CountNotifications():
            return _Call(COUNT, message.client_id)
        case ReadHistory() | ListDeadLetters():
            page = Page(client_id=message.client_id, cursor=message.cursor, limit=message.limit)
            return _Call(HISTORY if isinstance(message, ReadHistory) else DEAD_LETTERS, page)
        case ReadStatistics():
            return _Call(STATISTICS, message.client_id)
        case Resend():
            resending = Resending(client_id=message.client_id, notification_id=message.notification_id)
            return _Call(RESEND, resending)
        case MarkDelivery():
            mark = DeliveryMark(
                client_id=message.client_id,
                notification_id=message.notification_id,
                device_id=message.device_id,
                state=message.state,
            )
            return _Call(MARK, mark)
    raise AssertionError(f"{type(message).__name__} is not a request of this service")
