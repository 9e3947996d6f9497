"""P12, P14: the schemas, the AsyncAPI file and the TypeScript types are made from the classes, and break nobody."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import ValidationError

import protocol
from protocol.asyncapi import asyncapi
from protocol.breaking import breaking_changes
from protocol.commands import COMMANDS, CommandType
from protocol.errors import CLOSE_CODES, ErrorCode
from protocol.generated import generated_files
from protocol.schema import VERSION, schemas
from protocol.server_messages import SERVER_MESSAGES
from tests.javascript.tools import npm_file
from tests.protocol.command_samples import VALID, wrong_values

FOLDER = Path(protocol.__file__).parent
DOCUMENT = schemas()


def check(definition: str, value: Any) -> None:
    """Raises `ValidationError` where ``value`` is not what the schema says."""
    schema = {"$ref": f"#/$defs/{definition}", "$defs": DOCUMENT["$defs"]}
    Draft202012Validator(schema).validate(value)


# --- generated and committed --------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(generated_files()))
def test_p14_what_is_committed_is_what_the_classes_say(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == generated_files()[name], "run ./scripts/generate_schemas and commit what it writes"


def test_p14_no_change_breaks_a_client_of_the_same_version() -> None:
    baseline = json.loads((FOLDER / "baselines" / f"version_{VERSION}.json").read_text(encoding="utf-8"))
    assert baseline["version"] == VERSION
    assert breaking_changes(baseline, DOCUMENT) == []


def test_p14_every_message_is_protected_by_the_baseline() -> None:
    """Anything missing from it could change its meaning unnoticed."""
    baseline = json.loads((FOLDER / "baselines" / f"version_{VERSION}.json").read_text(encoding="utf-8"))
    missing = {name for name in DOCUMENT["$defs"] if "." in name} - set(baseline["$defs"])
    assert missing == set(), "run ./scripts/generate_schemas --publish and commit what it writes"


def test_p14_a_baseline_is_renewed_only_where_nothing_breaks(tmp_path: Path) -> None:
    copied = shutil.copytree(FOLDER, tmp_path / "protocol")
    script = tmp_path / "scripts" / "generate_schemas"
    script.parent.mkdir()
    shutil.copy(FOLDER.parent / "scripts" / "generate_schemas", script)
    baseline = copied / "baselines" / f"version_{VERSION}.json"
    smaller, broken = changed("", **{"command.ping": None}), changed("Token/properties", colour=STRING)
    for document, status, expected in ((smaller, 0, DOCUMENT), (broken, 1, broken)):
        baseline.write_text(json.dumps(document), encoding="utf-8")
        done = subprocess.run([sys.executable, script, "--publish"], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        assert json.loads(baseline.read_text(encoding="utf-8")) == expected
    assert done.stdout == "message.token.data.colour was removed\n"


def test_p14_every_message_and_nothing_else_has_an_envelope() -> None:
    envelopes = {name for name in DOCUMENT["$defs"] if "." in name}
    assert envelopes == {f"command.{name}" for name in COMMANDS} | {f"message.{name}" for name in SERVER_MESSAGES}


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(DOCUMENT)


@pytest.mark.parametrize("kind", sorted(VALID))
def test_p14_the_least_data_of_each_command_fits_its_schema(kind: str) -> None:
    check(f"command.{kind}", {"type": kind, "id": "1", "data": VALID[kind]})


def test_p14_the_schemas_refuse_every_wrong_type_that_the_codec_refuses() -> None:
    for kind, path, data, sample in wrong_values():
        try:
            check(f"command.{kind}", {"type": kind, "id": "1", "data": data})
        except ValidationError:
            continue
        pytest.fail(f"the schema takes {sample} for {path} of {kind}")


@pytest.mark.parametrize(
    ("definition", "value"),
    [
        ("command.generate", {"type": "generate", "id": "1", "data": {"prompt": "x", "colour": 1}}),
        ("command.generate", {"type": "generate", "id": "1", "data": {"prompt": "x", "temperature": 5.5}}),
        ("command.generate", {"type": "generate", "data": {"prompt": "x"}}),
        ("command.generate", {"type": "cancel", "id": "1", "data": {"prompt": "x"}}),
        ("command.cancel", {"type": "cancel", "id": "1"}),
        ("command.cancel", {"type": "cancel", "id": "", "data": {"target": "1"}}),
        ("command.hello", {"type": "hello", "id": "1", "data": {"client_id": "-"}}),
        ("message.token", {"type": "token", "time": "", "stream": "s", "seq": 0, "data": {"text": "a", "index": 0}}),
        ("message.accepted", {"type": "accepted", "time": "", "data": {"stream": "s", "epoch": "e"}}),
    ],
)
def test_p14_the_schemas_know_bounds_and_envelopes(definition: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        check(definition, value)


# --- AsyncAPI -----------------------------------------------------------------------------------------


def test_p14_the_asyncapi_file_is_valid_asyncapi_3() -> None:
    """By the specification's own JSON Schema."""
    path = npm_file("@asyncapi/specs/schemas/3.0.0-without-$id.json")
    specification = json.loads(path.read_text(encoding="utf-8"))
    document = asyncapi()
    Draft7Validator(specification).validate(document)
    document["operations"]["ping"]["action"] = "shout"
    with pytest.raises(ValidationError):
        Draft7Validator(specification).validate(document)


def test_p14_every_reference_of_the_asyncapi_file_leads_somewhere() -> None:
    document = asyncapi()

    def look_up(reference: str) -> Any:
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [one for inner in value.values() for one in references(inner)]
        return [one for inner in value for one in references(inner)] if isinstance(value, list) else []

    found = references(document)
    assert len(found) > 50
    for reference in found:
        assert look_up(reference) is not None


def test_p12_the_asyncapi_file_tells_every_close_code_and_whether_to_come_back() -> None:
    told = {one["code"]: one["reconnect"] for one in asyncapi()["x-close-codes"]}
    assert told == {int(code): about.reconnect for code, about in CLOSE_CODES.items()}
    assert told == {
        1001: "after", 1012: "after", 1007: "no", 1009: "no", 1011: "yes", 4008: "yes", 4400: "no", 4401: "no",
        4403: "no", 4408: "yes", 4409: "no", 4429: "after",
    }  # fmt: skip
    assert {one["code"] for one in asyncapi()["x-error-codes"]} == {code.value for code in ErrorCode}


# --- what breaks --------------------------------------------------------------------------------------


def changed(path: str, **changes: Any) -> dict[str, Any]:
    """The document with a definition changed: None removes a word."""
    document = copy.deepcopy(DOCUMENT)
    at = document["$defs"]
    for part in path.split("/") if path else ():
        at = at[part]
    for word, value in changes.items():
        if value is None:
            del at[word]
        else:
            at[word] = value
    return document


@pytest.mark.parametrize("name", ["command.ping", "message.token"])
def test_p14_a_removed_type_breaks(name: str) -> None:
    assert breaking_changes(DOCUMENT, changed("", **{name: None})) == [f"{name} was removed"]


STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("path", "changes", "problem"),
    [
        ("Token/properties", {"text": None}, "message.token.data.text was removed"),
        ("Token/properties", {"text": {"type": "integer"}}, "type string became integer"),
        ("Token/properties", {"text": {"type": ["string", "null"]}}, "type string became null or string"),
        ("Token", {"required": ["index"]}, "message.token.data.text may be missing now"),
        ("Generate/properties", {"prompt": None}, "command.generate.data.prompt was removed"),
        ("Generate/properties", {"prompt": STRING}, "type null or string became string"),
        ("Generate/properties", {"seed": {"type": ["string", "null"]}}, "type integer or null became null or string"),
        ("Generate", {"required": ["max_tokens"]}, "command.generate.data.max_tokens is required now"),
        ("Generate/properties/temperature", {"maximum": 2}, "command.generate.data.temperature: maximum fell to 2"),
        ("Generate/properties/temperature", {"minimum": 0.5}, "minimum rose to 0.5"),
        ("ChatMessage/properties", {"content": {"type": "array", "items": STRING}}, "messages[].content: type"),
        ("Role", {"enum": ["user", "assistant"]}, "system is no longer possible"),
        ("Hello/properties/client_id", {"pattern": "^[a-z]$"}, "the pattern changed"),
        ("command.generate", {"x-maximum-bytes": 1024}, "x-maximum-bytes fell to 1024"),
        ("command.generate", {"required": ["type", "id", "data", "x"]}, "command.generate.x is required now"),
        ("message.token/properties", {"seq": None}, "message.token.seq was removed"),
    ],
)
def test_p14_what_breaks_a_client_is_named(path: str, changes: dict[str, Any], problem: str) -> None:
    problems = breaking_changes(DOCUMENT, changed(path, **changes))
    assert problems
    assert any(problem in one for one in problems), problems
    assert breaking_changes(DOCUMENT, {**changed(path, **changes), "version": VERSION + 1}) == []


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("Token/properties", {"colour": STRING}),
        ("Token", {"required": ["text", "index", "logprobs"]}),
        ("Generate/properties", {"colour": STRING}),
        ("Generate/properties/temperature", {"maximum": 9}),
        ("Generate/properties", {"seed": {"type": ["integer", "string", "null"]}}),
        ("Role", {"enum": ["system", "user", "assistant", "tool"]}),
        ("", {"command.new": {"type": "object"}, "message.new": {"type": "object"}}),
    ],
)
def test_p14_what_is_only_added_breaks_nobody(path: str, changes: dict[str, Any]) -> None:
    assert breaking_changes(DOCUMENT, changed(path, **changes)) == []


def test_p14_two_classes_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @attrs.frozen
    class Cancel:
        target: int

    monkeypatch.setitem(COMMANDS, "another", CommandType(Cancel))
    with pytest.raises(ValueError, match="two classes are named Cancel"):
        schemas()
