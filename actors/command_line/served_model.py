"""Options that say what a server shall be, of a command that met one which runs: they hold there, or the command ends."""

from __future__ import annotations

from contextlib import suppress

from attrs import frozen

from actors.command_line.options import fail
from actors.inspection.server_file import ServerFile
from actors.own_command import line_here
from actors.settings import Settings

__all__ = ["ServerWish"]


@frozen
class ServerWish:
    """Options given on the command line; None if absent."""

    engine: str | None
    model: str | None

    def refuse_elsewhere(self) -> None:
        """End a command that names a server elsewhere and an engine for one of its own."""
        if self.engine is not None:
            fail(
                "--engine is of the server that is started if none is running, and --url names one that runs; leave one out",
                status=2,
            )

    def hold_against(self, server: ServerFile, settings: Settings) -> None:
        """End the command where this running server has another engine."""
        if self.engine is not None and self.engine != server.engine:
            fail(
                f"the server that runs on {settings.data_dir} has the engine {server.engine}, and --engine {self.engine} is of one "
                "that is started if none is running; leave it out, or give a folder of its own with --data-dir",
                status=2,
            )

    def hold_against_model(self, served: str, settings: Settings) -> None:
        """End the command where the server answers with another model."""
        if self.model is None or served in _names_of(self.model, settings):
            return
        fail(
            f"the server answers with {served}, not with {self.model}; leave --model out, or let it change to that one, for "
            f"everybody who asks it: `{line_here(settings, 'model', 'load', self.model)}`",
            status=2,
        )


def _names_of(model: str, settings: Settings) -> set[str]:
    """Return all names that a server may use for this model."""
    from actors.inference.checkpoints.catalogue import find_checkpoint, full_name
    from actors.inference.checkpoints.errors import ModelError

    names = {model, full_name(model)}
    # It may be one of a server elsewhere.
    with suppress(ModelError):
        names.add(find_checkpoint(model, settings.cache_dir).name)
    return names
