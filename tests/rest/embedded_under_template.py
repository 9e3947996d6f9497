"""The embedded model's weights under another template, for forms of calls that it never learned: whatever it calls was forced."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from actors.inference.mlx.embedded import ensure_embedded_model
from tests.cache_folder import cache_folder_of_tests
from tests.system.serving_process import ServingProcess, start_server, wait_for

UNUSED = ("<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>")
"""Tokens of its vocabulary that no template of ours has."""


@contextlib.contextmanager
def serving_under(data: Path, name: str, template: str, *, marks: Sequence[str] = ()) -> Iterator[ServingProcess]:
    """The real program below ``data`` with a model of this ``name`` that is ready; ``marks`` are tokens of its tokenizer."""
    cache = cache_folder_of_tests()
    embedded = ensure_embedded_model(cache, report=lambda _stage, _fraction: None)
    folder = data / "cache" / "models" / name
    folder.mkdir(parents=True)
    for one in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded / one, folder)
    (folder / "model.safetensors").symlink_to(embedded / "model.safetensors")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    _rename_tokens(folder / "tokenizer.json", dict(zip(UNUSED, marks, strict=False)))
    if (cache / "blas").is_dir():
        (data / "cache" / "blas").symlink_to(cache / "blas")
    with start_server(data, "--engine", "mlx", "--model", name) as started:
        with httpx.Client(base_url=started.about["rest_url"], trust_env=False, timeout=120) as client:
            # Not its status: nobody vouches for this folder, and so it is `degraded` for good.
            wait_for(lambda: client.get("/health/mlx").json().get("inference_ready"), seconds=240, what="the model")
        yield started


def _rename_tokens(path: Path, names: dict[str, str]) -> None:
    if not names:
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    renamed = [one for one in content["added_tokens"] if one["content"] in names]
    assert len(renamed) == len(names)
    for one in renamed:
        one["content"] = names[one["content"]]
    content["model"]["vocab"] = {names.get(text, text): number for text, number in content["model"]["vocab"].items()}
    path.write_text(json.dumps(content), encoding="utf-8")
