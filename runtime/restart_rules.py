"""Restart decisions, as pure functions over child records, and operators' restart requests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio
from attrs import define, field

from runtime.child_record import ChildRecord, State
from runtime.errors import AskFault, HandlerFailed, Refused, SendFault
from runtime.specs import AutoShutdown, DynamicSpec, Restart, Strategy, SupervisorSpec

__all__ = ["RestartRequest", "counts_as_failure", "ends_its_supervisor", "first_of_group", "wants_restart"]


def wants_restart(record: ChildRecord) -> bool:
    """True if a child that ended by itself is restarted, according to its restart type."""
    restart, ended = record.spec.restart, record.last_exit
    return restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and ended is not None and ended.is_crash)


def counts_as_failure(record: ChildRecord) -> bool:
    """True if the last end of a child counts towards its supervisor's intensity.

    Giving up is the answer to a bug. If the system is out of descriptors, disk space, threads or memory, or a
    neighbour could not be asked, restarting everything would meet the same conditions; back-off spaces the attempts, and the
    neighbour's own failures count where it is supervised. Failures of helpers do not count either.
    """
    ended = record.last_exit
    return not record.spec.is_helper and not (ended is not None and _is_of_surroundings(ended.error))


def _is_of_surroundings(error: BaseException | None) -> bool:
    match error:
        case BaseExceptionGroup():
            return all(_is_of_surroundings(one) for one in error.exceptions)
        case HandlerFailed():
            return False
        case RuntimeError():
            # Raised by `threading` if there is no memory for a stack, or the process limit is reached.
            return str(error).startswith("can't start new thread")
        case _:
            return isinstance(error, OSError | MemoryError | Refused | SendFault | AskFault)


def first_of_group(
    strategy: Strategy, siblings: Sequence[ChildRecord], ended: ChildRecord, pending: ChildRecord | None
) -> ChildRecord:
    """The first of the children that restart together with ``ended``; all later siblings belong to them.

    ``pending`` is the first of a group that already waits for its restart.
    """
    if strategy is Strategy.ONE_FOR_ALL:
        return siblings[0]
    if pending is not None and siblings.index(pending) < siblings.index(ended):
        return pending
    return ended


def ends_its_supervisor(
    spec: SupervisorSpec | DynamicSpec, ended: ChildRecord, siblings: Collection[ChildRecord]
) -> bool:
    """True if the supervisor ends itself now that ``ended`` has ended for good (its `auto_shutdown`)."""
    if not ended.spec.is_significant or not isinstance(spec, SupervisorSpec):
        return False
    if spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT:
        return True
    return spec.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and all(
        one.state is State.STOPPED for one in siblings if one.spec.is_significant
    )


@define(eq=False)
class RestartRequest:
    """An operator's request to restart one child."""

    record: ChildRecord
    """The child to restart."""
    done: trio.Event = field(factory=trio.Event)
    """Set when the request has succeeded or failed."""
    error: Exception | None = None
    """The reason if it failed."""
