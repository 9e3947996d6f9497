"""Rows of devices, whose names a client may invent, are limited per client."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from actors.connections import store
from actors.connections.store import (
    READ_ACKNOWLEDGED,
    READ_SUBSCRIPTION,
    STORE_ACKNOWLEDGEMENT,
    STORE_SUBSCRIPTION,
    Acknowledge,
    Device,
    StoreSubscription,
)
from actors.connections.tables import acknowledgements, subscriptions
from actors.errors import CommandError
from actors.storage import log
from protocol.commands import Subscribe
from protocol.errors import ErrorCode
from tests.database_fixture import connection, database, database_engine, fresh_database
from tests.storage_service import storage_service

__all__ = ["connection", "database", "database_engine"]

WANTED = Subscribe(channels=["tasks"])


def device(number: int, client_id: str = "me") -> Device:
    return Device(client_id=client_id, device_id=f"d{number}")


def subscribe(connection: Connection, number: int, wanted: Subscribe, client_id: str = "me") -> None:
    STORE_SUBSCRIPTION.function(connection, StoreSubscription(device=device(number, client_id), subscription=wanted))


def count(connection: Connection, table: object) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_a_default_subscription_is_not_kept_and_takes_the_place_of_one_that_was(connection: Connection) -> None:
    subscribe(connection, 1, Subscribe())
    assert count(connection, subscriptions) == 0
    subscribe(connection, 1, WANTED)
    assert READ_SUBSCRIPTION.function(connection, device(1)) == WANTED
    subscribe(connection, 1, Subscribe())
    assert READ_SUBSCRIPTION.function(connection, device(1)) == Subscribe()
    assert count(connection, subscriptions) == 0


def test_so_many_devices_of_a_client_have_a_subscription(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAXIMUM_DEVICES", 3)
    for number in range(3):
        subscribe(connection, number, WANTED)
    with pytest.raises(CommandError) as refused, connection.begin_nested():
        subscribe(connection, 3, WANTED)
    assert refused.value.code is ErrorCode.CONFLICT
    # Its existing rows may change, and other clients have limits of their own.
    subscribe(connection, 2, Subscribe(channels=["ai"]))
    subscribe(connection, 3, WANTED, client_id="you")
    subscribe(connection, 0, Subscribe())
    subscribe(connection, 3, WANTED)
    assert READ_SUBSCRIPTION.function(connection, device(3)) == WANTED


async def test_what_keeps_nothing_of_a_client_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAXIMUM_CLIENTS", 1)
    async with storage_service(fresh_database(tmp_path), operations=[STORE_SUBSCRIPTION]) as service:

        async def subscribe(client_id: str, wanted: Subscribe) -> None:
            command = StoreSubscription(device=device(1, client_id), subscription=wanted)
            await service.storage.transact(STORE_SUBSCRIPTION, command, client_id=client_id)

        for name in ("a", "b"):
            await subscribe(name, Subscribe())
        await subscribe("me", WANTED)
        await subscribe("c", Subscribe())
        with pytest.raises(CommandError, match="accepts no more"):
            await subscribe("c", WANTED)


def test_of_too_many_devices_the_one_that_was_silent_longest_is_forgotten(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAXIMUM_DEVICES", 3)

    def acknowledge(number: int, now_ms: int, client_id: str = "me") -> None:
        monkeypatch.setattr(store, "now_milliseconds", lambda: now_ms)
        command = Acknowledge(device=device(number, client_id), stream="client", epoch="e", seq=7)
        STORE_ACKNOWLEDGEMENT.function(connection, command)

    for number in range(3):
        acknowledge(number, 1000 + number)
    acknowledge(0, 2000)
    acknowledge(9, 500, client_id="you")
    acknowledge(3, 3000)
    acknowledge(4, 4000)
    known = [number for number in range(5) if READ_ACKNOWLEDGED.function(connection, device(number)) == 7]
    assert known == [0, 3, 4]
    assert READ_ACKNOWLEDGED.function(connection, device(9, "you")) == 7
    assert count(connection, acknowledgements) == 4
