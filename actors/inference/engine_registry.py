"""What the inference actor must still know after it was lost: which engines there are, and which model is in use."""

from __future__ import annotations

from attrs import field, frozen

from actors.inference.model_registry import ServableModel
from runtime import Actor, Request, block

__all__ = ["EngineRegistry", "EngineSnapshot", "ReadEngines", "RosterMessage", "StoreEngines"]


@frozen(kw_only=True)
class EngineSnapshot:
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
class StoreEngines:
    """The lineup has changed."""

    engine_snapshot: EngineSnapshot


@frozen
class ReadEngines(Request[EngineSnapshot]):
    """The lineup as it was last noted."""


RosterMessage = StoreEngines | ReadEngines


class EngineRegistry(Actor[RosterMessage]):
    """Remembers one value. It does nothing else, so that nothing else can take it down."""

    mailbox = block(64)

    def __init__(self) -> None:
        self._engine_snapshot = EngineSnapshot()

    async def handle(self, message: RosterMessage) -> EngineSnapshot | None:
        match message:
            case StoreEngines(engine_snapshot):
                self._engine_snapshot = engine_snapshot
                return None
            case ReadEngines():
                return self._engine_snapshot

    def snapshot(self) -> dict[str, object]:
        """Names only."""
        return {
            "in_use": None if self._engine_snapshot.in_use is None else self._engine_snapshot.in_use.name,
            "serving": self._engine_snapshot.serving,
            "engines": {name: model.name for name, model in self._engine_snapshot.engines.items()},
        }
