"""Judges the answers that a server's clients got while an operator had a bad day. No I/O.

Writes are recorded by answer. At the end the database holds each accepted one once and no rejected one, every device
received each event once and in order, each generation equals that of the same undisturbed request or ended with a
temporary error, and the server cut no connection.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

__all__ = [
    "NOT_DONE",
    "TEMPORARY",
    "AnswerTold",
    "Cut",
    "DeviceTold",
    "Told",
    "wrong_answers",
    "wrong_cuts",
    "wrong_writes",
]

NOT_DONE = frozenset({"unavailable", "shutting_down", "overloaded", "rate_limited"})
"""Error codes that mean nothing was carried out."""
TEMPORARY = NOT_DONE | {"deadline_exceeded", "engine_failed", "model_unavailable"}
"""The only codes by which clients may be told of an operating fault; any other blames the wrong party."""


class Told(enum.Enum):
    """The answer of a write."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """With a code of `NOT_DONE`."""
    UNKNOWN = "unknown"
    """No answer came, or one that leaves the outcome open."""


def wrong_writes(what: str, told: Mapping[str, Told], kept: Iterable[str]) -> list[str]:
    """Compare the answers (name → answer) with the names in the database. Returns the discrepancies."""
    times = Counter(kept)
    found = {
        f"{what} were accepted and are not kept": [
            name for name, one in told.items() if one is Told.ACCEPTED and not times[name]
        ],
        f"{what} were refused and are kept": [
            name for name, one in told.items() if one is Told.REFUSED and times[name]
        ],
        f"{what} are kept more than once": [name for name, number in times.items() if number > 1],
        f"{what} are kept that nobody sent": [name for name in times if name not in told],
    }
    return _counted(found)


@define
class DeviceTold:
    """The events that one device received, in order of arrival."""

    seqs: list[int] = field(factory=list)
    event_ids: list[str] = field(factory=list)
    names: list[str] = field(factory=list)
    """Names of the writes in the events."""
    snapshots: int = 0
    """Number of snapshots: the server could not tell what was missing."""

    def note(self, seq: int, event_id: str, name: str | None) -> None:
        """Record one event; ``name`` is that of its write."""
        self.seqs.append(seq)
        self.event_ids.append(event_id)
        if name is not None:
            self.names.append(name)

    def wrong(self, device: str, *, first_seq: int, head: int, to_be_told: Iterable[str]) -> list[str]:
        """Return the discrepancies, given that the log reached at least ``head`` and holds these writes."""
        found = []
        if self.snapshots:
            found.append(f"{device}: {self.snapshots} times the server had lost what was missing")
        expected = list(range(first_seq, max([head, *self.seqs[-1:]]) + 1))
        if self.seqs != expected:
            twice = len(self.seqs) - len(set(self.seqs))
            missing = len(set(expected) - set(self.seqs))
            what = f"{missing} missing, {twice} twice" if missing or twice else "out of order"
            found.append(f"{device}: of {len(expected)} events {what}")
        if twice := len(self.event_ids) - len(set(self.event_ids)):
            found.append(f"{device}: {twice} events came under two numbers")
        times = Counter(self.names)
        wanted = set(to_be_told)
        named = {
            f"{device}: writes that are kept were never told": [name for name in wanted if not times[name]],
            f"{device}: writes were told more than once": [name for name, number in times.items() if number > 1],
            f"{device}: writes were told that are not kept": [name for name in times if name not in wanted],
        }
        return found + _counted(named)


@frozen
class AnswerTold:
    """One answer of the model."""

    request: str
    text: str
    ending: str
    """`done`, an error code, or a description of the ending."""


def wrong_answers(answers: Iterable[AnswerTold], twins: Mapping[str, str], *, ties_allowed: float = 0.0) -> list[str]:
    """Compare answers with those of the same undisturbed requests; a share of ``ties_allowed`` may differ."""
    answers = list(answers)
    differing, ends = [], []
    for one in answers:
        twin = twins[one.request]
        if one.ending == "done" and one.text != twin:
            differing.append(one.request)
        elif one.ending != "done":
            if one.ending not in TEMPORARY:
                ends.append(f"{one.request} ({one.ending})")
            if not twin.startswith(one.text):
                differing.append(one.request)
    found = {"answers ended otherwise than with an error of their own": ends}
    if len(differing) > len(answers) * ties_allowed:
        found["answers differ from what they are undisturbed"] = differing
    return _counted(found)


@frozen
class Cut:
    """The end of a connection whose client was reading."""

    device: str
    code: int | None
    """Code of the close frame."""
    trouble: str
    """The last trouble caused to the server."""
    is_server_away: bool
    """True if the server was ending then, so that every connection had to end."""


ENDS_OF_SERVERS = (None, 1001, 1005, 1006, 1012)


def wrong_cuts(cuts: Iterable[Cut]) -> list[str]:
    """Return those that the end of the server does not explain."""
    unexplained = [one for one in cuts if not one.is_server_away or one.code not in ENDS_OF_SERVERS]
    return [f"{one.device} was cut while it read ({one.code}), after {one.trouble}" for one in unexplained]


def _counted(found: Mapping[str, list[str]]) -> list[str]:
    return [f"{len(names)} {what}, such as {names[0]}" for what, names in found.items() if names]
