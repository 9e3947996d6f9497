"""State that must outlive the inference actor: the running engines and the model in use."""

from __future__ import annotations

from attrs import field, frozen

from actors.inference.model_registry import ServableModel
from runtime import Actor, Request, block

__all__ = ["EngineRegistry", "EngineRegistryMessage", "EngineSnapshot", "ReadEngines", "StoreEngines"]


@frozen(kw_only=True)
class EngineSnapshot:
    """The service's engines."""

    in_use: ServableModel | None = None
    """The model that new requests go to, loaded or not; None before the first start."""
    serving: str | None = None
    """The engine that new requests go to; None while the model is unloaded."""
    engines: dict[str, ServableModel] = field(factory=dict)
    """Engines started and not yet stopped, by child name."""
    engines_started: int = 0
    """Number of engines started so far, so that no name is reused."""


@frozen
class StoreEngines:
    """Stores a new snapshot."""

    engine_snapshot: EngineSnapshot


@frozen
class ReadEngines(Request[EngineSnapshot]):
    """Returns the last snapshot stored."""


EngineRegistryMessage = StoreEngines | ReadEngines


class EngineRegistry(Actor[EngineRegistryMessage]):
    """Remembers one value and does nothing else, so that nothing else can crash it."""

    mailbox = block(64)

    def __init__(self) -> None:
        self._engine_snapshot = EngineSnapshot()

    async def handle(self, message: EngineRegistryMessage) -> EngineSnapshot | None:
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
