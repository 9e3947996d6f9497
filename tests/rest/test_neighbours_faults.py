"""A room whose neighbour restarts or is late is no fault of ours: over REST it is the same as if the neighbour had been asked."""

from __future__ import annotations

import pytest
from quart_trio import QuartTrio

from actors.refusals import what_failed
from actors.rest.application import _register_errors
from runtime import ActorDead, AskDeadline, HandlerFailed, MailboxFull, Request, RuntimeFault


class Asked(Request[None]):
    """Asked of a room, which asks another."""


FAULTS = [
    (ActorDead("storage/writer", 1, "returned"), 503, "unavailable"),
    (AskDeadline("storage/writer", Asked, 1.0), 504, "deadline_exceeded"),
    (MailboxFull("storage/writer", 10), 429, "overloaded"),
]


def behind_rooms(fault: RuntimeFault, rooms: int) -> RuntimeFault:
    for _ in range(rooms):
        fault = HandlerFailed("notifications/planner", Asked, fault)
    return fault


@pytest.mark.parametrize("rooms", [0, 1, 2])
@pytest.mark.parametrize(("fault", "status", "code"), FAULTS, ids=[one[2] for one in FAULTS])
async def test_op_a_neighbours_fault_is_told_as_what_it_is_however_many_rooms_stand_between(
    fault: RuntimeFault, status: int, code: str, rooms: int
) -> None:
    assert what_failed(behind_rooms(fault, rooms)) is fault
    app = QuartTrio(__name__)
    _register_errors(app)

    @app.get("/")
    async def ask() -> None:
        raise behind_rooms(fault, rooms)

    answer = await app.test_client().get("/")
    assert answer.status_code == status
    assert (await answer.get_json(force=True))["code"] == code


def test_op_a_bug_of_the_rooms_own_stays_one() -> None:
    failed = HandlerFailed("tasks", Asked, KeyError("x"))
    assert what_failed(failed) is failed
