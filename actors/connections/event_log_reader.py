"""Reads a client's event log for one connection: live events, pages, acknowledgements and pacing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio
from attrs import frozen

from actors.connections.log_cursor import LogCursor, Next, can_resume
from actors.connections.messages import AckNoted, DeviceBegan
from actors.connections.replay import Replayer
from actors.connections.store import STORE_ACKNOWLEDGEMENT, Acknowledge, Device
from actors.connections.transport import WebSocketTransport
from actors.errors import CommandError
from actors.storage.messages import LogPage, Storage, StoredEvent
from protocol.commands import Subscribe
from protocol.errors import CloseCode
from protocol.events import ResumeResult
from runtime import ActorRef, RuntimeFault, SendFault

__all__ = ["CLIENT_STREAM", "EventLog", "EventLogReader", "no_counts"]

_log = structlog.get_logger("connection")

CLIENT_STREAM = "client"
ACK_SECONDS = 1.0
ACK_EVENTS = 64
RETRY_SECONDS = 0.5
FRAME_BYTES = 200
"""Approximate size of a frame without its event's data."""

Counts = Callable[[str], Awaitable[dict[str, int]]]


async def no_counts(_: str) -> dict[str, int]:
    """Return zero counts, for a server without tasks and notifications."""
    return {"unread": 0, "task_count": 0}


@frozen(kw_only=True)
class EventLog:
    """Access to the event log for connections. The composition root supplies the services that publish events."""

    storage: Storage
    open: Callable[[str], Awaitable[str]]
    """Client id → epoch of its log, which is created if missing."""
    page: Callable[[str, int], Awaitable[LogPage]]
    """(client id, after seq) → the next events and the state of the log."""
    counts: Counts = no_counts
    """Client id → `unread` and `task_count` for a snapshot."""
    ack_to: ActorRef[AckNoted | DeviceBegan] | None = None
    """Notified of every stored acknowledgement, and of devices that begin at the head."""


class EventLogReader:
    """Delivers one client's event log to one connection."""

    def __init__(
        self, transport: WebSocketTransport, replayer: Replayer, log: EventLog, spawn: Callable[..., trio.CancelScope]
    ) -> None:
        self._transport = transport
        self._replayer = replayer
        self._log = log
        self._spawn = spawn
        self._device = Device(client_id="", device_id="")
        self.cursor = LogCursor()
        self._is_open = False
        self._is_alone = False
        self._later: trio.CancelScope | None = None
        self._acked = 0
        self._acked_stored = 0
        self._acks_waiting = 0
        self._ack_timer: trio.CancelScope | None = None

    # --- beginning and resuming -------------------------------------------------------------------

    async def begin(
        self, client_id: str, device_id: str, point: tuple[str, int] | None, *, is_alone: bool
    ) -> ResumeResult | None:
        """Begin at the log's head, or after the client's ``point``. Raises `CommandError`, `RuntimeFault`.

        Nothing is passed on before `open`. ``is_alone``: the device has no other connection.
        """
        self._device = Device(client_id=client_id, device_id=device_id)
        self._is_alone = is_alone
        page = await self._log.page(client_id, 0 if point is None else point[1])
        if not page.epoch:
            await self._log.open(client_id)
            page = await self._log.page(client_id, 0)
            assert page.epoch
        if point is None:
            self._stand_at_head(page)
            return None
        return await self._stand(page, *point)

    async def resume(self, epoch: str, seq: int) -> ResumeResult:
        """Continue after ``seq``; call `open` once the reply has been sent. Raises `CommandError`, `RuntimeFault`."""
        self._is_open = False
        try:
            return await self._stand(await self._log.page(self._device.client_id, seq), epoch, seq)
        except BaseException:
            self.open()
            raise

    async def _stand(self, page: LogPage, epoch: str, seq: int) -> ResumeResult:
        if can_resume(page, epoch, seq):
            self.cursor.begin(page.epoch, seq)
            return ResumeResult(stream=CLIENT_STREAM, resumed=True, head=page.head)
        counts = await self._log.counts(self._device.client_id)
        self._stand_at_head(page)
        snapshot = {"epoch": page.epoch, "seq": page.head, **counts}
        return ResumeResult(stream=CLIENT_STREAM, resumed=False, head=page.head, snapshot=snapshot)

    def _stand_at_head(self, page: LogPage) -> None:
        self.cursor.begin(page.epoch, page.head)
        if self._is_alone and page.oldest <= page.head:
            device = self._device
            self._notify(DeviceBegan(client_id=device.client_id, device_id=device.device_id, seq=page.head))

    def open(self) -> None:
        """Start passing on the events after the cursor. Call once the reply has been sent."""
        self._is_open = True
        self._read()

    # --- events -----------------------------------------------------------------------------------

    def take(self, events: tuple[StoredEvent, ...]) -> None:
        """Take live events."""
        if not self._is_open:
            return  # `open` reads the log
        for event in events:
            match self.cursor.judge(event):
                case Next.SEND if not self._transport.send_queue.has_room(len(event.data) + FRAME_BYTES):
                    # This event and all later ones are in the log.
                    self.cursor.is_stale = True
                    self._read()
                case Next.SEND:
                    frame = self.cursor.take(event)
                    if frame is not None:
                        self._transport.put(self._transport.send_queue.put_frame, frame, CLIENT_STREAM)
                case Next.READ:
                    self._read()
                case Next.READ_LATER:
                    self._read_later()
                case Next.NOTHING:
                    pass

    def poll(self) -> None:
        """Look for events that were not announced."""
        if self._is_open:
            self.cursor.is_stale = True
            if self.cursor.is_paced:
                self._read_later()
            else:
                self._read()

    def subscribe(self, subscription: Subscribe) -> None:
        """Apply the device's new subscription. Events held back by the old pace are sent at once."""
        self.cursor.subscription = subscription
        if self._later is not None:
            # Otherwise the next events would wait for the old pace's pause to end.
            self._later.cancel(reason="the pace has changed")
            self._later = None
        if self._is_open and self.cursor.is_stale:
            self._read()

    def _read(self) -> None:
        if not self.cursor.is_reading:
            self.cursor.is_reading = True
            self._replayer.want(CLIENT_STREAM, self._pull)

    def _read_later(self) -> None:
        if self._later is None:
            self._later = self._spawn(self._read_after, self.cursor.delay_seconds(trio.current_time()))

    async def _read_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self._later = None
        self._read()

    async def _pull(self) -> bool:
        """Pass on one page; True if there may be another."""
        cursor = self.cursor
        cursor.is_stale = False
        epoch, after = cursor.epoch, cursor.seq
        try:
            page = await self._log.page(self._device.client_id, after)
        except (CommandError, RuntimeFault) as error:
            _log.warning("log not read", connection=self._transport.name, error=str(error))
            await trio.sleep(RETRY_SECONDS)
            return True
        if (epoch, after) != (cursor.epoch, cursor.seq):
            return True  # resumed elsewhere meanwhile
        if not can_resume(page, epoch, after):
            if page.epoch != epoch or after > page.head:
                # A different log: its numbers do not relate to the events that the client has.
                self._transport.close_soon(CloseCode.TOO_SLOW, "the log has forgotten what comes next")
                return False
            # A client that reads is not cut: the sequence numbers show the gap, and a resume tells how to close it.
            cursor.skip_forgotten(page.oldest)
        if page.events:
            self._pass_on(page.events)
        if cursor.seq < page.head or cursor.is_stale:
            return True
        cursor.is_reading = False
        return False

    def _pass_on(self, events: tuple[StoredEvent, ...]) -> None:
        cursor, send_queue = self.cursor, self._transport.send_queue
        if cursor.is_paced:
            frame = cursor.take_together(events)
            if frame is not None:
                self._transport.put(send_queue.put_replayed, frame, CLIENT_STREAM)
                cursor.sent(trio.current_time())
            return
        for event in events:
            frame = cursor.take(event)
            if frame is not None:
                self._transport.put(send_queue.put_replayed, frame, CLIENT_STREAM)

    # --- acknowledgements -------------------------------------------------------------------------

    def acknowledge(self, seq: int) -> None:
        """Note that the client has everything up to ``seq``. Stored within a second, or at once with every 64th."""
        seq = min(seq, self.cursor.seq)  # a client cannot have what was never sent
        if seq <= self._acked:
            return
        self._acked = seq
        self._acks_waiting += 1
        if self._acks_waiting >= ACK_EVENTS:
            self._store_ack_after(0)
        elif self._ack_timer is None:
            self._store_ack_after(ACK_SECONDS)

    def _store_ack_after(self, seconds: float) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel(reason="stored now")
        self._acks_waiting = 0
        self._ack_timer = self._spawn(self._store_ack, seconds)

    async def _store_ack(self, seconds: float) -> None:
        if seconds:
            await trio.sleep(seconds)
        self._ack_timer = None
        self._acks_waiting = 0
        await self.store_acknowledged()

    async def store_acknowledged(self) -> None:
        """Store the newest acknowledgement if it is not on disk yet."""
        seq = self._acked
        if seq <= self._acked_stored:
            return
        command = Acknowledge(device=self._device, stream=CLIENT_STREAM, epoch=self.cursor.epoch, seq=seq)
        try:
            await self._log.storage.transact(STORE_ACKNOWLEDGEMENT, command, client_id=self._device.client_id)
        except (CommandError, RuntimeFault) as error:
            # Acknowledgements are cumulative: the next one covers this one.
            _log.warning("acknowledgement not stored", connection=self._transport.name, error=str(error))
            return
        self._acked_stored = max(self._acked_stored, seq)
        noted = AckNoted(
            client_id=self._device.client_id,
            device_id=self._device.device_id,
            seq=seq,
            after=self.cursor.begun,
            skipped=self.cursor.skipped,
            subscription=self.cursor.subscription,
        )
        self._notify(noted)

    def _notify(self, message: AckNoted | DeviceBegan) -> None:
        if self._log.ack_to is not None:
            try:
                self._log.ack_to.tell_nowait(message)
            except SendFault as error:
                _log.debug("acknowledgement not delivered", error=str(error))
