"""What the inference actor must still know after it was lost: which engines there are, and which model is in use."""

from __future__ import annotations

from attrs import field, frozen

from actors.inference.shelf import ServableModel
from runtime import Actor, Request, block

__all__ = ["Lineup", "NoteLineup", "ReadLineup", "Roster", "RosterMessage"]


@frozen(kw_only=True)
class Lineup:
    """The engines of the room."""

    in_use: ServableModel | None = None
    """The model that new requests go to, loaded or not; None before the first start."""
    serving: str | None = None
    """The engine that new requests go to; None while the model is unloaded."""
    engines: dict[str, ServableModel] = field(factory=dict)
    """Every engine that was started and not yet ended, by its name among its siblings."""
    engines_started: int = 0
    """How many there have been, so that no name is used twice."""


@frozen
class NoteLineup:
    """The lineup has changed."""

    lineup: Lineup


@frozen
class ReadLineup(Request[Lineup]):
    """The lineup as it was last noted."""


RosterMessage = NoteLineup | ReadLineup


class Roster(Actor[RosterMessage]):
    """Remembers one value. It does nothing else, so that nothing else can take it down."""

    mailbox = block(64)

    def __init__(self) -> None:
        self._lineup = Lineup()

    async def handle(self, message: RosterMessage) -> Lineup | None:
        match message:
            case NoteLineup(lineup):
                self._lineup = lineup
                return None
            case ReadLineup():
                return self._lineup

    def snapshot(self) -> dict[str, object]:
        """Names only."""
        return {
            "in_use": None if self._lineup.in_use is None else self._lineup.in_use.name,
            "serving": self._lineup.serving,
            "engines": {name: model.name for name, model in self._lineup.engines.items()},
        }
