"""`leanvibe connect`: other programs' settings are changed in one place each, and everything else in them stays."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from actors.command_line import connect as command
from actors.command_line.main import leanvibe
from actors.program_setup.config_edit import Change, Unreadable, edited
from actors.program_setup.programs import PROGRAMS, Served

HERE = Served(address="http://127.0.0.1:8000", model="embedded", context_tokens=8192, has_tokens=False)
JSONC = """// mine
{
    "theme": "dark", // yes
    /* many */
    "language_models": {
        "ollama": {"api_url": "x"},  // kept
    },
    "list": [1, 2,],
}
"""
TOML = '# mine\nmodel = "gpt"  # the old\n\n[mcp_servers.a]\ncommand = "x"  # kept\n'
YAML_TEXT = "# mine\nname: Me # who\nmodels:\n  # the other\n  - name: Other\n    provider: x\nrules: ['a']\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(command, "_served", lambda _: HERE)
    return tmp_path


def run(*arguments: str, said: str | None = None) -> Result:
    return CliRunner().invoke(leanvibe, ["connect", *arguments], input=said)


def read(form: str, text: str) -> Any:
    if form == "toml":
        return tomllib.loads(text)
    return YAML(typ="safe").load(text) if form == "yaml" else json.loads(text)


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_told_address_model_and_nothing_twice(home: Path, name: str) -> None:
    program = PROGRAMS[name]
    first = run(name, "--yes", "--json")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    path = Path(told["file"])
    assert path == program.file(home, {})
    assert told["is_written"]
    assert told["backup"] is None
    assert read(program.form, path.read_text())
    assert HERE.address in path.read_text()
    assert HERE.model in path.read_text()
    again = json.loads(run(name, "--yes", "--json").stdout)
    assert not again["is_changed"], "a second time changes nothing"
    assert list(path.parent.glob("*before-leanvibe*")) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_co2_no_token_is_written_and_new_files_are_their_owners_alone(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEANVIBE_TOKEN", "lv_secret_secret")
    monkeypatch.setattr(command, "_served", lambda _: Served(**{**_fields(HERE), "has_tokens": True}))
    told = json.loads(run(name, "--yes", "--json").stdout)
    path = Path(told["file"])
    assert "lv_secret" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert told["next_steps"], "how the program comes by a token"
    assert "lv_secret" not in str(told["next_steps"])


def _fields(served: Served) -> dict[str, Any]:
    return {name: getattr(served, name) for name in ("address", "model", "context_tokens", "has_tokens")}


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("zed", JSONC, ["// mine", "// yes", "/* many */", "// kept", '"list": [1, 2,]', '"ollama": {"api_url": "x"}']),
        ("codex", TOML, ["# mine", "# the old", "[mcp_servers.a]", "# kept"]),
        ("continue", YAML_TEXT, ["# mine", "# who", "# the other", "- name: Other", "rules: ['a']"]),
    ],
)
def test_co1_what_is_there_stays_with_its_comments_and_as_a_backup(
    home: Path, name: str, text: str, kept: list[str]
) -> None:
    path = PROGRAMS[name].file(home, {})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o640)
    told = run(name, said="y\n")
    assert told.exit_code == 0, told.output
    after = path.read_text()
    assert [one for one in kept if one not in after] == []
    assert HERE.address in after
    assert f"+++ {path}" in told.stdout, "the change was shown"
    (backup,) = path.parent.glob("*before-leanvibe-1")
    assert backup.read_text() == text
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, backup)] == [0o640, 0o640]
    assert not run(name, "--yes", "--json").stdout.count('"is_changed": true')


def test_co1_nothing_is_written_where_the_person_says_no_or_only_looks(home: Path) -> None:
    path = PROGRAMS["codex"].file(home, {})
    assert run("codex", said="n\n").exit_code == 1
    looked = run("codex", "--print")
    assert looked.exit_code == 0
    assert tomllib.loads(looked.stdout)["model_provider"] == "leanvibe"
    assert not path.exists()
    assert run("codex", "--json").exit_code == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zed", '{"a": }'), ("zed", "{"), ("zed", "[]"), ("zed", '{"language_models": 1}'), ("zed", '{"a": 1} x'),
        ("zed", '{"a": ' * 200), ("codex", "a = "), ("codex", "model_providers = 1"), ("continue", "a: [1"),
        ("continue", "- 1"), ("continue", "models: x"), ("vscode", "{}"),
    ],
)  # fmt: skip
def test_a_file_that_its_program_could_not_read_is_left_alone(home: Path, name: str, text: str) -> None:
    path = PROGRAMS[name].file(home, {})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    told = run(name, "--yes")
    assert told.exit_code == 1, told.output
    assert "Nothing was changed" in told.stderr
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link_and_a_folder_is_told(home: Path) -> None:
    elsewhere = home / "dotfiles.toml"
    elsewhere.write_text(TOML)
    path = PROGRAMS["codex"].file(home, {})
    path.parent.mkdir()
    path.symlink_to(elsewhere)
    assert run("codex", "--yes").exit_code == 0
    assert path.is_symlink()
    assert "leanvibe" in elsewhere.read_text()
    assert run("codex", "--yes", "--file", str(home)).exit_code == 2


def test_the_edit_changes_one_value_wherever_it_stands() -> None:
    change = Change(path=("a", "b", "c"), value=[1])
    for text in (
        "",
        "{}",
        "{\n}",
        '{"x": 1}',
        '{"a": {}}',
        '{"a": {"b": {"c": 2, "d": 3}}}',
        '{"a": {"b": {}},}',
        '{"a":{"z":1 // end\n}}',
    ):
        after = edited(text, "json", [change])
        assert edited(after, "json", [change]) == after
        plain = (
            "\n".join(line.split("//")[0] for line in after.splitlines()).replace("},}", "}}").replace("},\n}", "}\n}")
        )
        assert json.loads(plain)["a"]["b"]["c"] == [1]
    with pytest.raises(Unreadable):
        edited('{"a": 1}', "json", [change])
    entry = Change(path=(), value={"name": "me", "x": 1}, same="name")
    assert json.loads(edited('[{"name": "you"}, {"name": "me", "x": 0}]', "json", [entry])) == [
        {"name": "you"},
        {"name": "me", "x": 1},
    ]
