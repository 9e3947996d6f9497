"""The encoder's process: ``python -m actors.inference.encoder.worker --pipe FD --folder F --cache-folder C``."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

from actors.inference.encoder.limits import MEMORY_BYTES
from actors.inference.encoder.worker.pipe import Pipe
from actors.process_memory import resident_bytes
from actors.queued_output import queue_standard_output

EXIT_MODEL = 3
"""Exit status of a failed load; a frame has carried the reason."""
NICENESS = 5
"""Lower priority than the chat model's step loop, which delays every client's tokens."""


def main() -> int:
    """Loads the encoder, reports it, then answers batches until the server is gone."""
    queue_standard_output(is_private=True)
    parser = argparse.ArgumentParser(prog="leanvibe-encoder")
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cache-folder", type=Path, required=True)
    arguments = parser.parse_args()
    # Threads share a batch by rows, and each product runs in one thread. The variable is read when numpy is imported.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.nice(NICENESS)
    pipe = Pipe(socket.socket(fileno=arguments.pipe))
    pipe.send("hello", {"pid": os.getpid()})
    try:
        loaded = _load(arguments, lambda name: pipe.send("loading", {"stage": name}))
    except Exception as error:  # noqa: BLE001  boundary: any failure to load is reported in a frame
        pipe.send("load_failed", {"error": f"{type(error).__name__}: {error}"})
        return EXIT_MODEL
    pipe.send("ready", {"report": loaded.report, "memory": resident_bytes()})
    loaded.stepped = lambda: pipe.send("step", {})
    while True:
        batch = pipe.receive()
        pipe.send("batch", {"pieces": _answers(loaded, batch["pieces"]), "memory": resident_bytes()})


def _load(arguments: argparse.Namespace, stage: Any) -> Any:
    stage("importing")
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            _, most = resource.getrlimit(resource.RLIMIT_DATA)
            limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    from actors.inference.kernels.jit_cache import set_cache_dir

    set_cache_dir(arguments.cache_folder)
    from actors.inference.encoder.worker.load import load_encoder

    return load_encoder(arguments.folder, stage)


def _answers(loaded: Any, pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers a batch: for each request, its vectors or the problem with one of its texts. All texts are computed together."""
    read = [_ids(loaded, one) for one in pieces]
    good = [ids for one, ids in read if one is None]
    try:
        vectors = loaded.embed([text for ids in good for text in ids])
    except Exception as error:  # noqa: BLE001  isolation boundary: a failed batch is reported, and the next one is taken
        return [{"failed": f"{type(error).__name__}: {error}"} if one is None else one for one, _ in read]
    answers, done = [], 0
    for piece, (problem, ids) in zip(pieces, read, strict=True):
        if problem is not None:
            answers.append(problem)
            continue
        own = vectors[done : done + len(ids)]
        done += len(ids)
        answers.append(_answer(piece, own, sum(len(one) for one in ids)))
    return answers


def _ids(loaded: Any, piece: dict[str, Any]) -> tuple[dict[str, Any] | None, list[list[int]]]:
    """The token ids of a request's texts, or its problem."""
    from actors.inference.encoder.worker.tokens import TooLong, UnknownId

    try:
        return None, loaded.tokens.read(piece["inputs"], truncates=piece["truncates"])
    except TooLong as error:
        return {"too_long": error.index, "tokens": error.tokens}, []
    except UnknownId as error:
        return {"unknown_id": error.index, "id": error.token_id}, []
    except Exception as error:  # noqa: BLE001  isolation boundary between requests
        return {"failed": f"{type(error).__name__}: {error}"}, []


def _answer(piece: dict[str, Any], vectors: Any, tokens: int) -> dict[str, Any]:
    from actors.inference.encoder.worker.answers import as_json, shortened

    made = [as_json(one, is_base64=piece["is_base64"]) for one in shortened(vectors, piece["dimensions"])]
    return {"vectors": made, "tokens": tokens}


if __name__ == "__main__":
    sys.exit(main())
