"""The models that a running server may load, by name. Clients never name folders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
from attrs import frozen

from actors.inference.calibration import Calibration, read_calibration
from actors.inference.checkpoints.errors import ModelNotFound
from actors.inference.checkpoints.inventory import InventoryEntry, inventory
from actors.inference.checkpoints.weight_format import loaded_bytes
from actors.inference.text.text_model import CheckpointText, MockText, TextModel

__all__ = ["MOCK_MODEL", "CheckpointRegistry", "MockRegistry", "ModelRegistry", "ServableModel"]


@frozen(kw_only=True)
class ServableModel:
    """A model that this server may load."""

    name: str
    """Short name if it has one, else the full name."""
    folder: Path | None
    """Checkpoint folder; None for a model of the mock engine."""
    adapter: Path | None = None
    """LoRA adapter applied to it."""


MOCK_MODEL = ServableModel(name="mock", folder=None)
"""The mock engine's first model."""


class ModelRegistry(Protocol):
    """Source of models. All methods read files and block: call them in a thread."""

    def start(self) -> ServableModel:
        """The model that the server was started with."""

    def entries(self) -> list[InventoryEntry]:
        """All models that have a name."""

    def find(self, name: str) -> ServableModel:
        """Finds a model by name. Raises `ModelNotFound` if it is not on this machine."""

    def text(self, model: ServableModel) -> TextModel:
        """Its tokenizer and template. Raises `OSError` or `ValueError` naming the file at fault."""

    def calibration(self, model: ServableModel) -> Calibration | None:
        """Measured calibration of its confidence; None if not measured."""

    def need_bytes(self, model: ServableModel, backend: str) -> int:
        """Memory of its weights once loaded on ``backend``. Raises `ModelError`."""


@frozen
class CheckpointRegistry:
    """The models in the cache folder, and the model that the server was started with, wherever its folder is."""

    started_with: ServableModel
    """With its folder's symbolic links resolved."""
    cache_folder: Path
    may_compile: bool = False
    """True if CPU workers use compiled kernels where they can."""

    def start(self) -> ServableModel:
        """The model that the server was started with."""
        return self.started_with

    def entries(self) -> list[InventoryEntry]:
        """The inventory, with symbolic links resolved so that two names of one folder compare equal."""
        return [
            attrs.evolve(one, folder=None if one.folder is None else one.folder.resolve())
            for one in inventory(self.cache_folder, self.started_with.folder)
        ]

    def find(self, name: str) -> ServableModel:
        """Finds a model by the inventory's short or full name, or by the name given at start-up. Raises
        `ModelNotFound`."""
        if name == self.started_with.name:
            return self.started_with
        for entry in self.entries():
            if name in (entry.name, entry.full_name) and entry.folder is not None:
                # The adapter belongs to the model it was given with.
                is_start = entry.folder == self.started_with.folder
                return self.started_with if is_start else ServableModel(name=entry.name, folder=entry.folder)
        raise ModelNotFound(name_or_path=name, searched=(self.cache_folder / "models",))

    def text(self, model: ServableModel) -> TextModel:
        """Reads the tokenizer's files."""
        assert model.folder is not None
        return CheckpointText(model.folder)

    def calibration(self, model: ServableModel) -> Calibration | None:
        """Read from the model's folder. None with an adapter, which changes the model that was measured."""
        if model.folder is None or model.adapter is not None:
            return None
        return read_calibration(model.folder)

    def need_bytes(self, model: ServableModel, backend: str) -> int:
        """Computed from the headers of the weight files. Raises `ModelError`."""
        assert model.folder is not None
        may_stay_packed = self.may_compile and model.adapter is None
        return loaded_bytes(model.folder, as_float32=backend == "cpu", may_stay_packed=may_stay_packed)


@frozen
class MockRegistry:
    """Models without weights, for trying changes of model where no real one is installed."""

    names: Sequence[str] = ("mock", "mock-other")
    weights_bytes: int = 0

    def start(self) -> ServableModel:
        """The first one."""
        return ServableModel(name=self.names[0], folder=None)

    def entries(self) -> list[InventoryEntry]:
        """All of them, without a size."""
        make = partial(
            InventoryEntry, is_present=True, is_in_use=False, size_bytes=0, type="mock", quantization="",
            provenance="unverified", source="the mock engine", folder=None,
        )  # fmt: skip
        return [make(name=name, full_name=name) for name in self.names]

    def find(self, name: str) -> ServableModel:
        """Finds a model by name. Raises `ModelNotFound`."""
        if name not in self.names:
            raise ModelNotFound(name_or_path=name, searched=())
        return ServableModel(name=name, folder=None)

    def text(self, model: ServableModel) -> TextModel:
        """A text side that maps tokens to bytes."""
        return MockText()

    def calibration(self, model: ServableModel) -> Calibration | None:
        """Always None."""
        return None

    def need_bytes(self, model: ServableModel, backend: str) -> int:
        """The configured size."""
        return self.weights_bytes
