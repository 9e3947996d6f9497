"""The real hub client against a hub on loopback: whole, cut, corrupt, gated, gone, and a disk that is full."""

import errno
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

from actors.inference.checkpoints import hub as hub_module
from actors.inference.checkpoints.errors import (
    HubCommitDiffers,
    HubDownloadBroken,
    HubFileCorrupt,
    HubModelGated,
    HubModelNotFound,
    HubModelUnusable,
    HubUnreachable,
    ModelDiskFull,
    PickleRefused,
)
from actors.inference.checkpoints.hub import pull
from actors.inference.checkpoints.manifest import read_manifest, stamp_is_current, verify_files
from tests.inference.models.local_hub import Hub, serving
from tests.inference.models.small_checkpoints import write_small

WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("hub") / "small", shards=2)


@pytest.fixture
def hub(small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub()) as running:
        running.add_folder(small_folder)
        running.files["modeling_small.py"] = b"raise SystemExit('remote code')"
        running.files["pytorch_model.bin"] = b"pickle"
        running.files["README.md"] = b"# small"
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        # The client keeps what came by ten megabytes, and the model here has less.
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        # It waits a second before it tries again.
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)
        yield running


def _pull(
    cache_folder: Path, model: str = "someone/small", revision: str | None = None, *, offline: bool = False
) -> Path:
    return pull(model, cache_folder, revision=revision, offline=offline, progress=lambda _done, _total: None)


def _gets(hub: Hub, name: str) -> list[str | None]:
    return [range_ for method, path, range_ in hub.asked if method == "GET" and path.endswith(name)]


def _left(cache_folder: Path) -> list[str]:
    return sorted(entry.name for entry in (cache_folder / "models").iterdir())


def test_a_model_comes_whole_pinned_and_verified_and_without_programs_and_pickles(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = pull(
        "someone/small", tmp_path, revision=None, offline=False, progress=lambda done, total: seen.append((done, total))
    )
    assert folder == tmp_path / "models" / "someone--small"
    assert sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")) == [
        "config.json", "generation_config.json", "manifest.json", WEIGHTS, "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "tokenizer.json",
    ]  # fmt: skip
    verify_files(folder, with_hashes=True)
    manifest = read_manifest(folder)
    assert manifest["source"] == {"hub_id": "someone/small", "revision": hub.commit}
    assert manifest["provenance"] == "verified"
    assert stamp_is_current(folder)
    done = [part for part, _total in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1] == sum((folder / name).stat().st_size for name in _names(manifest))
    assert _left(tmp_path) == ["someone--small"]
    # Every file is asked for at the commit, so that a branch that moves meanwhile mixes nothing.
    assert all(hub.commit in path for method, path, _range in hub.asked if "/resolve/" in path)


def _names(manifest: dict[str, list[dict[str, str]]]) -> list[str]:
    return [entry["name"] for entry in manifest["files"]]


def test_a_model_that_is_there_is_not_fetched_again_and_needs_no_network_offline(hub: Hub, tmp_path: Path) -> None:
    folder = _pull(tmp_path)
    hub.asked.clear()
    assert _pull(tmp_path) == folder
    assert [path for _method, path, _range in hub.asked if "/resolve/" in path] == []
    hub.asked.clear()
    assert _pull(tmp_path, offline=True) == folder
    assert _pull(tmp_path, revision=hub.commit) == folder
    assert hub.asked == []


def test_offline_only_the_commit_that_is_there_can_be_had(hub: Hub, tmp_path: Path) -> None:
    _pull(tmp_path)
    with pytest.raises(HubCommitDiffers, match=r"at commit c{12}, but commit d{12}"):
        _pull(tmp_path, revision="d" * 40, offline=True)
    with pytest.raises(HubUnreachable, match="offline mode"):
        _pull(tmp_path, revision="main", offline=True)
    assert _pull(tmp_path, revision=hub.commit, offline=True) == tmp_path / "models" / "someone--small"


def test_another_commit_of_a_model_that_is_there_is_refused(hub: Hub, tmp_path: Path) -> None:
    _pull(tmp_path)
    hub.commit = "d" * 40
    with pytest.raises(
        HubCommitDiffers, match=r"at commit c{12}, but commit d{12} .*`leanvibe model remove someone/small`"
    ):
        _pull(tmp_path)


def test_a_cut_connection_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    hub.cuts[WEIGHTS] = [3000, 5000]
    folder = _pull(tmp_path)
    verify_files(folder, with_hashes=True)
    assert _gets(hub, WEIGHTS) == [None, "bytes=3000-", "bytes=8000-"]


def test_a_connection_that_keeps_breaking_is_told_and_the_next_pull_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.cuts[WEIGHTS] = [2000, *[0] * 40]
    with pytest.raises(HubDownloadBroken, match="pull again to resume"):
        _pull(tmp_path)
    assert _left(tmp_path) == [f".pulling-someone--small-{hub.commit[:12]}"]
    hub.cuts.clear()
    hub.asked.clear()
    verify_files(_pull(tmp_path), with_hashes=True)
    assert _gets(hub, WEIGHTS) == ["bytes=2000-"]
    assert _gets(hub, "/config.json") == []
    assert _left(tmp_path) == ["someone--small"]


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_corrupt_bytes_are_refused_by_name_and_fetched_anew(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.corrupt.add(name)
    with pytest.raises(HubFileCorrupt, match="wrong content") as caught:
        _pull(tmp_path)
    assert caught.value.file == name
    assert not (tmp_path / "models" / "someone--small").exists()
    hub.corrupt.clear()
    verify_files(_pull(tmp_path), with_hashes=True)


def test_no_such_model_and_no_such_revision_are_told_apart(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubModelNotFound, match=r"no model 'someone/other'"):
        _pull(tmp_path, "someone/other")
    with pytest.raises(HubModelNotFound, match=r"no revision 'v9' of someone/small"):
        _pull(tmp_path, revision="v9")
    with pytest.raises(HubModelNotFound):
        _pull(tmp_path, "some one/bad..name")


def test_a_gated_model_says_what_its_owner_wants(hub: Hub, tmp_path: Path) -> None:
    hub.is_gated = True
    with pytest.raises(HubModelGated, match="hf auth login"):
        _pull(tmp_path)


def test_no_network_is_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(HubUnreachable, match="cannot reach the hub for someone/small"):
            _pull(tmp_path)


def test_a_hub_in_trouble_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.status = 500
    with pytest.raises(HubUnreachable, match="answered 500"):
        _pull(tmp_path)


def test_offline_without_the_model_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubUnreachable, match="offline mode"):
        _pull(tmp_path, offline=True)
    assert hub.asked == []


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_room_is_told_before_the_first_byte_with_need_and_have(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(10, 10, 12_000_000))
    with pytest.raises(ModelDiskFull, match=r"50 MB needed, 12 MB free"):
        _pull(tmp_path)
    assert _left(tmp_path) == []
    assert [path for _method, path, _range in hub.asked if "/resolve/" in path] == []


def test_a_disk_that_fills_up_on_the_way_is_a_full_disk(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", fill)
    with pytest.raises(ModelDiskFull):
        _pull(tmp_path)


def test_pickles_alone_are_refused_with_the_reason(hub: Hub, tmp_path: Path) -> None:
    hub.files = {name: content for name, content in hub.files.items() if "safetensors" not in name}
    with pytest.raises(PickleRefused, match=r"pytorch_model\.bin.*runs whatever code"):
        _pull(tmp_path)


def test_a_repository_of_gguf_files_is_refused_with_what_can_be_done(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": b"{}", "small-q4.gguf": b"GGUF", "README.md": b"# small"}
    with pytest.raises(
        HubModelUnusable, match=r"no model\*\.safetensors on the hub \(it has \*\.gguf\).*model convert FILE"
    ):
        _pull(tmp_path)
    assert not (tmp_path / "models").exists()


def test_a_model_without_a_configuration_is_refused(hub: Hub, tmp_path: Path) -> None:
    del hub.files["config.json"]
    with pytest.raises(
        HubModelUnusable, match=r"someone/small has no config\.json on the hub \(it has \*\.safetensors\)"
    ):
        _pull(tmp_path)


def test_a_half_written_manifest_of_an_older_pull_is_no_obstacle(hub: Hub, tmp_path: Path) -> None:
    leftover = tmp_path / "models" / f".pulling-someone--small-{hub.commit[:12]}"
    leftover.mkdir(parents=True)
    (leftover / "config.json").write_text("{}")
    verify_files(_pull(tmp_path), with_hashes=True)
    assert hub_module.list_files("someone/small", None, offline=False).commit == hub.commit
