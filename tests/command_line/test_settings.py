"""Where a setting comes from, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.settings import Settings, SettingsFault, load_settings


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file here, and none of ours in the environment."""
    import os

    for name in list(os.environ):
        if name.startswith("LEANVIBE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "leanvibe.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_source_the_defaults_hold() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.ws_port) == ("127.0.0.1", 8000, 8765)
    assert (settings.engine, settings.model, settings.blas) == ("mlx", "embedded", "auto")
    assert settings.data_dir.is_absolute()


def test_the_file_beats_the_defaults() -> None:
    write('[leanvibe]\nport = 1000\nengine = "mock"\nallowed_hosts = ["box.lan"]\nmax_rows = 4\n')
    settings = load_settings({})
    assert (settings.port, settings.engine, settings.allowed_hosts, settings.max_rows) == (1000, "mock", ["box.lan"], 4)


def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[leanvibe]\nport = 1000\nws_port = 1001\n")
    monkeypatch.setenv("LEANVIBE_PORT", "2000")
    settings = load_settings({})
    assert (settings.port, settings.ws_port) == (2000, 1001)


def test_an_option_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[leanvibe]\nport = 1000\n")
    monkeypatch.setenv("LEANVIBE_PORT", "2000")
    assert load_settings({"port": 3000}).port == 3000


def test_folders_come_as_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path / "data"))
    write(f'[leanvibe]\ncache_dir = "{tmp_path / "cache"}"\n')
    settings = load_settings({})
    assert (settings.data_dir, settings.cache_dir) == (tmp_path / "data", tmp_path / "cache")


def test_lists_in_the_environment_are_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANVIBE_ALLOWED_HOSTS", "box.lan")
    monkeypatch.setenv("LEANVIBE_ALLOWED_ORIGINS", "https://app.example, http://box.lan:3000")
    settings = load_settings({})
    assert settings.allowed_hosts == ["box.lan"]
    assert settings.allowed_origins == ["https://app.example", "http://box.lan:3000"]


def test_another_file_may_be_named() -> None:
    write("[leanvibe]\nport = 1000\n")
    other = write("[leanvibe]\nport = 4000\n", "other.toml")
    assert load_settings({}, config=other).port == 4000


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(SettingsFault, match=r"nowhere\.toml"):
        load_settings({}, config=Path("nowhere.toml"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "-1"),
        ("port", "many"),
        ("ws_port", "70000"),
        ("engine", "steam"),
        ("max_rows", "0"),
        ("max_rows", "1000"),
        ("max_connections", "0"),
        ("max_waiting", "0"),
        ("default_max_tokens", "0"),
        ("drain_seconds", "-1"),
        ("drain_seconds", "soon"),
        ("mock_step_seconds", "-1"),
        ("log_level", "loud"),
    ],
)
def test_a_wrong_value_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LEANVIBE_{name.upper()}", value)
    with pytest.raises(SettingsFault) as caught:
        load_settings({})
    text = str(caught.value)
    assert name in text.lower()
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("port = 70000", ["port"]),
        ('port = "many"', ["port"]),
        ('engine = "steam"', ["engine", "steam"]),
        ("colour = 5", ["colour"]),
        ("allowed_hosts = 5", ["allowed_hosts"]),
        ("port = ", ["leanvibe.toml"]),
    ],
)
def test_a_wrong_line_in_the_file_is_named(line: str, words: list[str]) -> None:
    write(f"[leanvibe]\n{line}\n")
    with pytest.raises(SettingsFault) as caught:
        load_settings({})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "word"), [({"port": 70000}, "port"), ({"engine": "steam"}, "engine"), ({"max_rows": 0}, "max_rows")]
)
def test_a_wrong_option_is_named(overrides: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsFault, match=word):
        load_settings(overrides)


def test_every_setting_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "LEANVIBE_HOST": "localhost",
        "LEANVIBE_MODEL": "m",
        "LEANVIBE_MODEL_WHEEL": str(tmp_path / "w.whl"),
        "LEANVIBE_BLAS": "shipped",
        "LEANVIBE_DEFAULT_MAX_TOKENS": "7",
        "LEANVIBE_DRAIN_SECONDS": "1.5",
        "LEANVIBE_LOG_LEVEL": "debug",
        "LEANVIBE_WORKER_FAULTS": "[]",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = load_settings({})
    assert isinstance(settings, Settings)
    assert (settings.host, settings.model, settings.blas) == ("localhost", "m", "shipped")
    assert settings.model_wheel == tmp_path / "w.whl"
    assert (settings.default_max_tokens, settings.drain_seconds, settings.log_level) == (7, 1.5, "debug")
    assert settings.worker_faults == "[]"
