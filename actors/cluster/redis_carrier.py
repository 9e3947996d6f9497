"""The carrier on Redis or Valkey, version 7 or newer, through coredis.

::

    lv:{log:NAME}        stream of runs; the id LAST-FENCE of its newest entry is where the log stands
    lv:{node:NAME}       stream: a node's inbox
    lv:{topic:NAME}      stream: what is announced
    lv:{present:KEY}     hash: node → end of validity, value

Names and payloads are encrypted; a name is a keyed hash. Every key has a time to live and is in a slot of its own, and a
script touches one key, so that a broker which loses data loses a log wholly or not at all.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
from coredis import Redis
from coredis.exceptions import RedisError

from actors.cluster.carrier import (
    ANNOUNCEMENTS_KEPT,
    LOG_SECONDS,
    MESSAGES_KEPT,
    PRESENT_SECONDS,
    Announced,
    Appended,
    CarrierUnavailable,
    Fenced,
    Forged,
    Gap,
    Run,
    Told,
)
from actors.cluster.configuration import ClusterConfiguration
from actors.cluster.redis_client import COMMAND_SECONDS, leaves, open_client
from actors.cluster.sealing import Seal

__all__ = ["RedisCarrier", "open_redis_carrier"]

Answer = TypeVar("Answer")

CONNECTIONS = 4
HEAR_SECONDS = 1.0
FEED_SECONDS = 300.0
PAGE = 64
"""Entries of a log, inbox or topic that one read returns at most."""

_APPEND = """
local fence, first, last = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stored, head = 0, 0
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #newest > 0 then
  local a, b = string.match(newest[1][1], '^(%d+)-(%d+)$')
  head, stored = tonumber(a), tonumber(b)
end
if fence < stored then return {'FENCED', stored} end
if last < first then
  if fence > stored then redis.call('XADD', KEYS[1], head .. '-' .. fence, 'first', 0, 'data', '') end
elseif fence > stored then
  if first ~= 1 then return {'GAP', 0} end
  redis.call('DEL', KEYS[1])
  redis.call('XADD', KEYS[1], last .. '-' .. fence, 'first', first, 'data', ARGV[4])
  head = last
elseif first == head + 1 then
  redis.call('XADD', KEYS[1], last .. '-' .. fence, 'first', first, 'data', ARGV[4])
  head = last
elseif last > head then return {'GAP', head}
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {'OK', head}
"""
_PRESENT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', now + ARGV[3]) .. ' ' .. ARGV[2]) end
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local space = string.find(all[i + 1], ' ', 1, true)
  if tonumber(string.sub(all[i + 1], 1, space - 1)) > now then
    found[#found + 1] = all[i]
    found[#found + 1] = string.sub(all[i + 1], space + 1)
  else redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return found
"""
_POST = """
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'data', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
_AFTER_ANY_FENCE = 2**64 - 1


@asynccontextmanager
async def open_redis_carrier(configuration: ClusterConfiguration) -> AsyncIterator[RedisCarrier]:
    """A carrier for the length of a block. It connects when it is first used."""
    async with open_client(configuration.broker, connections=CONNECTIONS) as client:
        yield RedisCarrier(configuration, client)


class RedisCarrier:
    """One node's end. See `Carrier` for what the methods do."""

    def __init__(self, configuration: ClusterConfiguration, client: Redis[bytes]) -> None:
        self._configuration = configuration
        self._node = configuration.node
        self._key = configuration.key
        self._seal = Seal(configuration.key)
        self._client = client

    async def append(self, log: str, fence: int, first: int, last: int, data: bytes) -> Appended | Fenced | Gap:
        """See `Carrier`."""
        key = self._place("log", log)
        sealed = self._seal.seal(key, data, f"{first}-{last}")
        found: Any = await self._evaluate(_APPEND, key, [fence, first, last, sealed, int(LOG_SECONDS * 1000)])
        number = int(found[1])
        match _text(found[0]):
            case "FENCED":
                return Fenced(number)
            case "GAP":
                return Gap(number)
        return Appended(number)

    async def read(self, positions: Mapping[str, int]) -> Mapping[str, tuple[Run, ...]]:
        """See `Carrier`."""
        if not positions:
            return {}
        places = {self._place("log", log): log for log in positions}
        after = {key: f"{positions[log]}-{_AFTER_ANY_FENCE}" for key, log in places.items()}
        found = await _within(COMMAND_SECONDS, lambda: self._client.xread(after, count=PAGE))
        pages = {}
        for name, entries in (found or {}).items():
            key = _text(name)
            runs = tuple(
                self._run(key, one) for one in entries if one.field_values is not None and one.field_values[b"data"]
            )
            if runs:
                pages[places[key]] = runs
        return pages

    async def tell(self, node: str, message: bytes) -> None:
        """See `Carrier`."""
        await self._post(self._place("node", node), message, MESSAGES_KEPT)

    async def announce(self, topic: str, key: str) -> None:
        """See `Carrier`."""
        await self._post(self._place("topic", topic), f"{self._node}\0{key}".encode(), ANNOUNCEMENTS_KEPT)

    async def present(self, key: str, value: bytes | None) -> Mapping[str, bytes]:
        """See `Carrier`."""
        place = self._place("present", key)
        sealed = b"" if value is None else self._seal.seal(place, value, self._node)
        found: Any = await self._evaluate(_PRESENT, place, [self._node, sealed, int(PRESENT_SECONDS * 1000)])
        pairs = zip(found[::2], found[1::2], strict=True)
        return {_text(node): self._seal.open(place, one, _text(node)) for node, one in pairs}

    @asynccontextmanager
    async def listen(self, topics: tuple[str, ...]) -> AsyncIterator[_RedisEar]:
        """See `Carrier`."""
        places: dict[str, str | None] = {self._place("node", self._node): None}
        places |= {self._place("topic", one): one for one in topics}
        # Of its own: what listens waits within a command, longer than others may take, and coredis 6.9 never gives a
        # connection back to its pool after such a wait was cancelled.
        seconds = HEAR_SECONDS + COMMAND_SECONDS
        async with open_client(self._configuration.broker, connections=1, command_seconds=seconds) as client:
            ear = _RedisEar(client, self._seal, places)
            await ear.begin()
            yield ear

    def _place(self, kind: str, name: str) -> str:
        """A key of the broker. Of a name its hash: an operator of the broker need not read client ids."""
        digest = hmac.digest(self._key, f"name {kind} {name}".encode(), hashlib.sha256)[:16].hex()
        return f"lv:{{{kind}:{digest}}}"

    def _run(self, key: str, entry: Any) -> Run:
        last = int(_text(entry.identifier).partition("-")[0])
        first = int(entry.field_values[b"first"])
        return Run(first, last, self._seal.open(key, entry.field_values[b"data"], f"{first}-{last}"))

    async def _post(self, place: str, plain: bytes, kept: int) -> None:
        # Named, so that one that was sent again by somebody else counts once.
        sealed = self._seal.seal(place, uuid.uuid4().bytes + plain)
        await self._evaluate(_POST, place, [sealed, kept, int(FEED_SECONDS * 1000)])

    async def _evaluate(self, script: str, key: str, arguments: list[Any]) -> Any:
        return await _within(COMMAND_SECONDS, lambda: self._client.eval(script, [key], arguments))


class _RedisEar:
    """Reads streams from where it stands, so that a cut loses nothing that the broker still has."""

    def __init__(self, client: Redis[bytes], seal: Seal, places: Mapping[str, str | None]) -> None:
        self._client = client
        self._seal = seal
        self._places = places
        self._positions = dict.fromkeys(places, "0-0")
        self._seen: dict[bytes, None] = {}

    async def begin(self) -> None:
        """Stand at the end of each stream."""
        for place in self._places:
            self._positions[place] = await self._end(place)

    async def _end(self, place: str) -> str:
        newest = await _within(COMMAND_SECONDS, lambda: self._client.xrevrange(place, count=1))
        return _text(newest[0].identifier) if newest else "0-0"

    async def hear(self) -> tuple[Told | Announced, ...]:
        wait = int(HEAR_SECONDS * 1000)
        found = await _within(
            # The client's own deadline comes first, after which its connection is good for another try.
            HEAR_SECONDS + 2 * COMMAND_SECONDS,
            lambda: self._client.xread(dict(self._positions), count=PAGE, block=wait),
        )
        heard: list[Told | Announced] = []
        for name, entries in (found or {}).items():
            place = _text(name)
            topic = self._places[place]
            for one in entries:
                self._positions[place] = _text(one.identifier)
                try:
                    values: Any = one.field_values
                    plain = self._seal.open(place, values[b"data"])
                except (Forged, KeyError, TypeError):
                    continue
                if self._is_new(plain[:16]):
                    said = plain[16:]
                    heard.append(Told(said) if topic is None else _announced(topic, said))
        return tuple(heard)

    def _is_new(self, name: bytes) -> bool:
        """Return True for a message not seen before, so that an attacker in between cannot replay one."""
        if name in self._seen:
            return False
        self._seen[name] = None
        if len(self._seen) > ANNOUNCEMENTS_KEPT + MESSAGES_KEPT:
            del self._seen[next(iter(self._seen))]
        return True


async def _within(seconds: float, command: Callable[[], Awaitable[Answer]]) -> Answer:
    """Run a command with a deadline and turn what the client raises into ours."""
    try:
        with trio.fail_after(seconds):
            return await command()
    except (RedisError, OSError, trio.TooSlowError, TimeoutError, BaseExceptionGroup) as error:
        causes = leaves(error)
        if not all(isinstance(one, RedisError | OSError | trio.TooSlowError | TimeoutError) for one in causes):
            raise
        said = " ".join(str(causes[0]).split()) or "no answer in time"
        raise CarrierUnavailable(f"the broker does not answer: {said}") from error


def _announced(topic: str, said: bytes) -> Announced:
    node, _, key = said.decode().partition("\0")
    return Announced(topic, key, node)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
