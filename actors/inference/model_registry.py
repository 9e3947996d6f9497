"""The models that a running server may load, by name. A client names them; it never names a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
from attrs import frozen

from actors.inference.calibration import Calibration
from actors.inference.checkpoints.calibration_file import read_calibration
from actors.inference.checkpoints.errors import ModelNotFound
from actors.inference.checkpoints.inventory import InventoryEntry, inventory
from actors.inference.checkpoints.loaded_size import loaded_bytes
from actors.inference.text.text_model import CheckpointText, MockText, TextModel

__all__ = ["MOCK_MODEL", "CheckpointRegistry", "MockRegistry", "ModelRegistry", "ServableModel"]


@frozen(kw_only=True)
class ServableModel:
    """A model that this server may load."""

    name: str
    """What people call it: the short name where there is one."""
    folder: Path | None
    """Its checkpoint; None for a model of the mock engine."""
    adapter: Path | None = None
    """A LoRA adapter that is put onto it."""


MOCK_MODEL = ServableModel(name="mock", folder=None)
"""What the mock engine serves at first."""


class ModelRegistry(Protocol):
    """Everything here reads files and blocks: call it in a thread."""

    def start(self) -> ServableModel:
        """The model that the server was started with."""

    def entries(self) -> list[InventoryEntry]:
        """Everything that has a name."""

    def find(self, name: str) -> ServableModel:
        """The model of that name. Raises `ModelNotFound` for one that is not on this machine."""

    def text(self, model: ServableModel) -> TextModel:
        """Its tokenizer and template. Raises `OSError` or `ValueError` naming the file that is wrong."""

    def calibration(self, model: ServableModel) -> Calibration | None:
        """What was measured of how far its confidence is to be believed; None where nothing was."""

    def need_bytes(self, model: ServableModel, backend: str) -> int:
        """Memory of its weights once they are loaded on ``backend``. Raises `ModelError`."""


@frozen
class CheckpointRegistry:
    """The models under the cache folder, and the one that the server was started with, wherever it lies."""

    started_with: ServableModel
    """Its folder without links."""
    cache_folder: Path
    may_compile: bool = False
    """Whether workers compute with compiled code on a CPU, where they can."""

    def start(self) -> ServableModel:
        """The model that the server was started with."""
        return self.started_with

    def entries(self) -> list[InventoryEntry]:
        """The inventory, its folders without links, so that two names of one folder compare equal."""
        return [
            attrs.evolve(one, folder=None if one.folder is None else one.folder.resolve())
            for one in inventory(self.cache_folder, self.started_with.folder)
        ]

    def find(self, name: str) -> ServableModel:
        """By the short or the full name of the inventory, or as it was written at the start. Raises `ModelNotFound`."""
        if name == self.started_with.name:
            return self.started_with
        for entry in self.entries():
            if name in (entry.name, entry.full_name) and entry.folder is not None:
                # The adapter belongs to the model that it was named with.
                is_start = entry.folder == self.started_with.folder
                return self.started_with if is_start else ServableModel(name=entry.name, folder=entry.folder)
        raise ModelNotFound(name_or_path=name, searched=(self.cache_folder / "models",))

    def text(self, model: ServableModel) -> TextModel:
        """Reads the tokenizer's files."""
        assert model.folder is not None
        return CheckpointText(model.folder)

    def calibration(self, model: ServableModel) -> Calibration | None:
        """From beside its manifest; an adapter makes another model of it, of which nothing was measured."""
        if model.folder is None or model.adapter is not None:
            return None
        return read_calibration(model.folder)

    def need_bytes(self, model: ServableModel, backend: str) -> int:
        """From the headers of the weights' files. Raises `ModelError`."""
        assert model.folder is not None
        may_stay_packed = self.may_compile and model.adapter is None
        return loaded_bytes(model.folder, as_float32=backend == "cpu", may_stay_packed=may_stay_packed)


@frozen
class MockRegistry:
    """Models without weights, so that changing them can be tried where there is none."""

    names: Sequence[str] = ("mock", "mock-other")
    weights_bytes: int = 0

    def start(self) -> ServableModel:
        """The first."""
        return ServableModel(name=self.names[0], folder=None)

    def entries(self) -> list[InventoryEntry]:
        """All of them, without a size."""
        make = partial(
            InventoryEntry, is_present=True, is_in_use=False, size_bytes=0, type="mock", quantization="",
            provenance="unverified", source="the mock engine", folder=None,
        )  # fmt: skip
        return [make(name=name, full_name=name) for name in self.names]

    def find(self, name: str) -> ServableModel:
        """By its name. Raises `ModelNotFound`."""
        if name not in self.names:
            raise ModelNotFound(name_or_path=name, searched=())
        return ServableModel(name=name, folder=None)

    def text(self, model: ServableModel) -> TextModel:
        """Bytes."""
        return MockText()

    def calibration(self, model: ServableModel) -> Calibration | None:
        """None: there is nothing to measure."""
        return None

    def need_bytes(self, model: ServableModel, backend: str) -> int:
        """As many as it was told."""
        return self.weights_bytes
