"""A service whose upstream restarts or is late reports that over REST as if the upstream had been asked directly."""

from __future__ import annotations

import pytest
from quart_trio import QuartTrio

from actors.errors import root_fault
from actors.rest.application import _register_errors
from runtime import ActorDead, AskDeadline, HandlerFailed, MailboxFull, Request, RuntimeFault


class Asked(Request[None]):
    """Sent to a service, which asks another."""


FAULTS = [
    ("GET", ActorDead("storage/writer", 1, "returned"), 503, "unavailable"),
    ("POST", ActorDead("storage/writer", 1, "returned"), 503, "unavailable"),
    ("GET", ActorDead("storage/readers", 1, "returned", has_begun=True), 503, "unavailable"),
    ("POST", ActorDead("storage/writer", 1, "returned", has_begun=True), 504, "deadline_exceeded"),
    ("GET", AskDeadline("storage/writer", Asked, 1.0), 504, "deadline_exceeded"),
    ("GET", MailboxFull("storage/writer", 10), 429, "overloaded"),
]


def behind_services(fault: RuntimeFault, services: int) -> RuntimeFault:
    for _ in range(services):
        fault = HandlerFailed("notifications/dispatcher", Asked, fault)
    return fault


@pytest.mark.parametrize("services", [0, 1, 2])
@pytest.mark.parametrize(("method", "fault", "status", "code"), FAULTS)
async def test_op_a_neighbours_fault_is_told_as_what_it_is_however_many_services_stand_between(
    method: str, fault: RuntimeFault, status: int, code: str, services: int
) -> None:
    assert root_fault(behind_services(fault, services)) is fault
    app = QuartTrio(__name__)
    _register_errors(app)

    @app.route("/", methods=["GET", "POST"])
    async def ask() -> None:
        raise behind_services(fault, services)

    answer = await app.test_client().open("/", method=method)
    assert answer.status_code == status
    assert (await answer.get_json(force=True))["code"] == code


def test_op_a_bug_of_the_services_own_stays_one() -> None:
    failed = HandlerFailed("tasks", Asked, KeyError("x"))
    assert root_fault(failed) is failed
