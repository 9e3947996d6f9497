"""The tree as data: child specs and supervisor specs, checked before anything starts."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from attrs import field, frozen, validators

from runtime.errors import UnsafeIntensity
from runtime.restart_policy import MAXIMUM_INTENSITY_PRODUCT, Backoff

if TYPE_CHECKING:
    from attrs import Attribute

    from runtime.actor import Actor

__all__ = ["AutoShutdown", "ChildSpec", "DynamicSpec", "Restart", "Strategy", "SupervisorSpec", "check_intensities"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Restart(enum.Enum):
    """Conditions for restarting a child that ended (OTP's names)."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Only after a crash."""
    TEMPORARY = "temporary"
    """Never, not even with its siblings."""


class Strategy(enum.Enum):
    """The siblings that restart along with a child."""

    ONE_FOR_ONE = "one_for_one"
    """None."""
    ONE_FOR_ALL = "one_for_all"
    """All siblings: stopped in reverse order, started in order."""
    REST_FOR_ONE = "rest_for_one"
    """Those started after it."""


class AutoShutdown(enum.Enum):
    """Conditions for a supervisor to end itself after significant children have ended for good."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


def _valid_name(_: object, attribute: Attribute[str], value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{attribute.name} must match {_NAME.pattern}, not {value!r}")


def _valid_intensity(_: object, attribute: Attribute[Any], value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f"{attribute.name} must be at least 0, or None to never give up, not {value}")


@frozen(kw_only=True)
class ChildSpec:
    """One child of a supervisor."""

    id: str = field(validator=_valid_name)
    """Its name among its siblings; a path is the names from the root joined by `/`."""
    start: Callable[[], Actor[Any]] | SupervisorSpec | DynamicSpec
    """Creates a fresh actor for each incarnation, or describes a supervisor."""
    restart: Restart = Restart.PERMANENT
    """Conditions for its restart."""
    is_helper: bool = False
    """True if the others work without it: its failures never make its supervisor give up, not even at its first start."""
    is_significant: bool = False
    """True if its end counts for the supervisor's `auto_shutdown`."""
    start_seconds: float = field(default=20.0, validator=validators.gt(0))
    """Deadline for `started`."""
    drain_seconds: float = field(default=5.0, validator=validators.ge(0))
    """Time it may take after the stop message before it is cancelled. Supervisors have no such deadline."""
    cancel_seconds: float = field(default=1.0, validator=validators.ge(0))
    """Time it may take after cancellation before it is reported as stuck."""
    backoff: Backoff = field(factory=Backoff)
    """Delays between restarts."""


def _as_tuple(children: Iterable[ChildSpec]) -> tuple[ChildSpec, ...]:
    return tuple(children)


def _unique_ids(_: object, __: Attribute[Any], children: tuple[ChildSpec, ...]) -> None:
    seen: set[str] = set()
    for child in children:
        if child.id in seen:
            raise ValueError(f"two children are called {child.id!r}")
        seen.add(child.id)


@frozen(kw_only=True)
class SupervisorSpec:
    """A supervisor with a fixed list of children, started top to bottom and stopped bottom to top."""

    children: tuple[ChildSpec, ...] = field(default=(), converter=_as_tuple, validator=_unique_ids)
    """In start order."""
    strategy: Strategy = Strategy.ONE_FOR_ONE
    """The siblings that restart together."""
    intensity: int | None = field(default=3, validator=_valid_intensity)
    """Restarts allowed in `period_seconds`; None never gives up (back-off alone then spaces restarts)."""
    period_seconds: float = field(default=5.0, validator=validators.gt(0))
    """Length of the sliding restart window."""
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    """Conditions for ending itself when significant children end."""

    def __attrs_post_init__(self) -> None:
        if self.auto_shutdown is AutoShutdown.NEVER and any(child.is_significant for child in self.children):
            raise ValueError("a significant child needs a supervisor with auto_shutdown")
        for child in self.children:
            if child.is_significant and child.restart is Restart.PERMANENT:
                raise ValueError(f"significant child {child.id!r} is permanent, so it never ends for good")


@frozen(kw_only=True)
class DynamicSpec:
    """A supervisor whose children are started at run time; one-for-one, stopped all at once."""

    max_children: int = field(validator=[validators.instance_of(int), validators.ge(1)])
    """Most children; one more is refused with `CapacityExceeded`."""
    intensity: int | None = field(default=3, validator=_valid_intensity)
    """As in `SupervisorSpec`; counts only children that are not temporary."""
    period_seconds: float = field(default=5.0, validator=validators.gt(0))
    """Length of the sliding restart window."""


def check_intensities(spec: SupervisorSpec | DynamicSpec, *, bound: int = MAXIMUM_INTENSITY_PRODUCT) -> None:
    """Rejects a tree whose restart intensities multiply past ``bound`` along a branch.

    An escalation restarts the supervisor, which may then restart its children as often again, so attempts
    multiply by level. Raises `UnsafeIntensity` naming the branch.
    """
    for path, product in _products(spec, "", 1):
        if product > bound:
            raise UnsafeIntensity(path, product, bound)


def _products(spec: SupervisorSpec | DynamicSpec, path: str, above: int) -> Iterator[tuple[str, int]]:
    # A supervisor that never gives up never escalates, so it does not multiply its parent's attempts.
    own = above * max(spec.intensity, 1) if spec.intensity is not None else 1
    yield path or "/", own
    for child in spec.children if isinstance(spec, SupervisorSpec) else ():
        if isinstance(child.start, (SupervisorSpec, DynamicSpec)):
            yield from _products(child.start, f"{path}/{child.id}".lstrip("/"), own)
