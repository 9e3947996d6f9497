"""What is particular to the carrier on Redis: secrecy, names, times to live, and ends in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from actors.cluster.carrier import MESSAGES_KEPT, Announced, Appended, CarrierUnavailable, Forged, Told
from actors.cluster.configuration import ClusterConfiguration
from actors.cluster.redis_carrier import RedisCarrier, open_redis_carrier
from actors.cluster.redis_client import open_client
from tests.redis_fixture import RedisProcess

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
pytestmark = pytest.mark.integration


@asynccontextmanager
async def carrier(redis: RedisProcess, node: str = "ada", key: bytes = KEY) -> AsyncIterator[RedisCarrier]:
    async with open_redis_carrier(ClusterConfiguration(node=node, broker=redis.address, key=key)) as opened:
        yield opened


async def use_everything(one: RedisCarrier) -> None:
    await one.append("stream of zoe", 1, 1, 1, b"a secret answer")
    await one.tell("ada", b"a secret message")
    await one.announce("log", "zoe")
    await one.present("zoe", b"a secret phone")


async def test_cb6_the_broker_learns_no_payload_and_no_name(redis: RedisProcess) -> None:
    async with carrier(redis) as ada, open_client(redis.address, connections=1) as client:
        await use_everything(ada)
        keys = await client.keys("*")
        held = b"".join([await client.dump(one) or b"" for one in keys])
        assert len(keys) == 4
        for word in (b"secret", b"zoe", KEY):
            assert word not in held
            assert word not in b" ".join(keys)


async def test_cb6_every_key_begins_with_lv_is_in_one_slot_and_ends_by_itself(redis: RedisProcess) -> None:
    async with carrier(redis) as ada, open_client(redis.address, connections=1) as client:
        await use_everything(ada)
        for key in await client.keys("*"):
            assert key.startswith(b"lv:{")
            assert key.endswith(b"}")
            assert 0 < await client.pttl(key) <= 300_000


async def test_cb7_nothing_that_was_written_with_another_key_is_believed(redis: RedisProcess) -> None:
    async with (
        carrier(redis) as ada,
        carrier(redis, "eve", OTHER_KEY) as eve,
        open_client(redis.address, connections=1) as client,
        ada.listen(("log",)) as ear,
    ):
        # Even under the names that only the key's holders can know.
        for place, kept in ((ada._place("node", "ada"), b"inbox"), (ada._place("topic", "log"), b"topic")):
            await client.xadd(place, {"data": eve._seal.seal(place, b"x" * 16 + kept)})
        await ada.tell("ada", b"true")
        heard: list[Told | Announced] = []
        while not heard:
            heard += await ear.hear()
        assert heard == [Told(b"true")]
        place = ada._place("log", "one")
        await client.xadd(place, {"first": "1", "data": eve._seal.seal(place, b"lie", "1-1")}, identifier="1-1")
        with pytest.raises(Forged):
            await ada.read({"one": 0})
        # Nor a true run where it does not belong.
        await ada.append("two", 1, 1, 1, b"true")
        entry = (await client.xrange(ada._place("log", "two")))[0]
        assert entry.field_values
        await client.xadd(
            ada._place("log", "three"), {"first": "1", "data": entry.field_values[b"data"]}, identifier="1-1"
        )
        with pytest.raises(Forged):
            await ada.read({"three": 0})


async def test_what_is_sent_again_by_somebody_between_is_heard_once(redis: RedisProcess) -> None:
    async with carrier(redis) as ada, open_client(redis.address, connections=1) as client, ada.listen(()) as ear:
        await ada.tell("ada", b"one")
        place = ada._place("node", "ada")
        entry = (await client.xrange(place))[0]
        await client.xadd(place, {"data": (entry.field_values or {})[b"data"]})
        await ada.tell("ada", b"two")
        heard: list[Told | Announced] = []
        while Told(b"two") not in heard:
            heard += await ear.hear()
        assert heard == [Told(b"one"), Told(b"two")]


async def test_an_inbox_that_nobody_reads_is_bounded(redis: RedisProcess) -> None:
    async with carrier(redis) as ada, open_client(redis.address, connections=1) as client:
        for number in range(MESSAGES_KEPT + 10):
            await ada.tell("bob", str(number).encode())
        assert await client.xlen(ada._place("node", "bob")) == MESSAGES_KEPT


async def test_a_wait_that_is_cancelled_leaves_the_carrier_usable(redis: RedisProcess) -> None:
    async with carrier(redis) as ada:
        for _ in range(6):
            async with ada.listen(()) as ear:
                with trio.move_on_after(0.05):
                    await ear.hear()
            assert await ada.append("one", 1, 1, 1, b"x") == Appended(1)
        async with ada.listen(()) as ear:
            await ada.tell("ada", b"after")
            heard: list[Told | Announced] = []
            while not heard:
                heard += await ear.hear()
        assert heard == [Told(b"after")]


async def test_a_carrier_can_be_opened_while_the_broker_is_away_and_works_when_it_comes(redis: RedisProcess) -> None:
    redis.kill()
    async with carrier(redis) as ada:
        with pytest.raises(CarrierUnavailable):
            await ada.announce("log", "x")
        redis.start()
        with trio.fail_after(60):
            while True:
                try:
                    await ada.announce("log", "x")
                    break
                except CarrierUnavailable:
                    await trio.sleep(0.05)
