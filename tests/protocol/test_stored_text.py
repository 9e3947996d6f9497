"""One rule for every text that is stored, in every command and body: no lone surrogate, no control character but white space and
escape, and no more characters than the field has room for; the refusal names the field and answers under the command's id."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from actors.rest.assistant import CompleteRequest, ProcessRequest
from protocol.codec import decode_command, structure
from protocol.commands import COMMANDS
from protocol.errors import InvalidField, ProtocolFault, TooLarge
from protocol.notifications import DeviceRegister, NotificationPost, Preferences
from protocol.tasks import TaskCreate, TaskImport
from protocol.validation import CONTROLS, control_problem
from tests.protocol.command_samples import FREE, least_data
from tests.protocol.test_text_of_every_field import CASES, NUL, texts_of_class

CONTROL_CHARACTERS = ("\x01", "\x07", "\x08", "\x0e", "\x1f", "\x7f", "\x80", "\x9b", "\x9f")
WHITE_SPACE = "\t\n\x0b\x0c\r\x1b\x85"
"""Passes in every stored text: logs and code have it."""
NOT_STORED = {
    # What the model is asked: any character may be what it is asked about.
    "generate": ("data.prompt", "data.messages", "data.stop", "data.response_schema"),
    # A resource's id, looked up and never stored.
    "notification_read": ("data.notification_ids",),
}
"""Texts of writing commands that may have any character."""
LONG = 20_000
"""More characters than any bounded field has room for."""

WRITING = [
    case
    for case in CASES
    if COMMANDS[case[0]].writes
    and COMMANDS[case[0]].data not in FREE
    and not any(case[1].startswith(one) for one in NOT_STORED.get(case[0], ()))
]


def frame(kind: str, data: Any, text: str) -> str:
    """The command with this text in the place of the sample's."""
    return json.dumps(
        {"type": kind, "id": "c1", "data": json.loads(json.dumps(data).replace(json.dumps(NUL)[1:-1], "%"))}
    ).replace("%", json.dumps(text)[1:-1])


def refusal(kind: str, data: Any, text: str) -> ProtocolFault | None:
    """The error for the command with this text, or None."""
    try:
        decode_command(frame(kind, data, text))
    except ProtocolFault as fault:
        return fault
    return None


@pytest.mark.parametrize("surrogate", ["\\ud800", "\\udfff", "\\udc00\\ud800"])
def test_tx_no_text_of_any_command_has_a_lone_surrogate_and_the_refusal_names_the_field(surrogate: str) -> None:
    for kind, path, data in CASES:
        text = frame(kind, data, "@").replace("@", f"a{surrogate}")
        with pytest.raises(InvalidField, match="lone surrogate") as caught:
            decode_command(text)
        assert (caught.value.field, caught.value.command_id) == (path, "c1"), kind


def test_tx_no_stored_text_of_any_command_has_a_control_character() -> None:
    named = 0
    for kind, path, data in WRITING:
        is_plain = refusal(kind, data, "ab") is None
        for character in CONTROL_CHARACTERS:
            fault = refusal(kind, data, f"a{character}b")
            assert isinstance(fault, InvalidField), (kind, path, character)
            if is_plain:
                assert fault.field == path, (kind, fault.message)
                named += 1
        if is_plain and refusal(kind, data, "a b/c") is None:
            assert refusal(kind, data, f"a{WHITE_SPACE}b") is None, (kind, path)
    assert named > 200


def test_tx_no_text_of_any_command_is_longer_than_its_field_or_its_command_allows() -> None:
    for kind, path, data in CASES:
        if COMMANDS[kind].data in FREE:
            continue
        fault = refusal(kind, data, "x" * LONG)
        is_stored = COMMANDS[kind].writes and not any(path.startswith(one) for one in NOT_STORED.get(kind, ()))
        if is_stored and path != "data.content":
            assert isinstance(fault, InvalidField | TooLarge), (kind, path)
            if refusal(kind, data, "ab") is None and isinstance(fault, InvalidField):
                assert fault.field is not None
                assert path.startswith(fault.field), (kind, path)
        longest = refusal(kind, data, "x" * COMMANDS[kind].maximum_bytes)
        assert isinstance(longest, InvalidField | TooLarge), (kind, path)
        assert longest.command_id == "c1" or COMMANDS[kind].maximum_bytes >= 1024 * 1024


BODIES: list[tuple[type, dict[str, Any]]] = [
    (TaskCreate, {"title": "t"}),
    (TaskImport, {"tasks": [{"title": "t"}]}),
    (DeviceRegister, {"platform": "ios", "token": "ab" * 32}),
    (Preferences, {}),
    (ProcessRequest, {**least_data(ProcessRequest), "type": "message", "content": "c"}),
    (CompleteRequest, {"content": "c", "cursor": 0}),
]


def problem_of(cls: type, data: Any) -> str | None:
    try:
        structure(data, cls, prefix="body")
    except InvalidField as fault:
        return str(fault.field)
    return None


@pytest.mark.parametrize(("cls", "valid"), BODIES, ids=[one.__name__ for one, _ in BODIES])
def test_tx_so_it_is_in_every_body_that_is_stored(cls: type, valid: dict[str, Any]) -> None:
    assert problem_of(cls, valid) is None
    number = 0
    for path, data in texts_of_class(cls, "body", valid, lambda value: value):

        def with_text(text: str, data: Any = data) -> Any:
            return json.loads(json.dumps(data).replace(json.dumps(NUL)[1:-1], json.dumps(text)[1:-1]))

        number += 1
        if problem_of(cls, with_text("ab")) is not None:
            continue
        for character in CONTROL_CHARACTERS:
            assert problem_of(cls, with_text(f"a{character}b")) == path
        if not path.endswith(".content"):
            assert problem_of(cls, with_text("x" * LONG)) == path
    assert number


@pytest.mark.parametrize("name", ["title", "body"])
def test_tx_a_notifications_fields_are_held_to_it_too(name: str) -> None:
    fields = {"title": "t", "body": "b"}
    for character in CONTROL_CHARACTERS:
        body = {"template": "message", "fields": {**fields, name: f"a{character}b"}}
        assert problem_of(NotificationPost, body) == f"body.fields.{name}"
    assert problem_of(NotificationPost, {"template": "message", "fields": {**fields, name: f"a{WHITE_SPACE}"}}) is None
    long = {"template": "message", "fields": {**fields, name: "x" * LONG}}
    assert problem_of(NotificationPost, long) == f"body.fields.{name}"


def test_tx_the_characters_are_those_of_c0_and_c1_but_white_space_and_escape() -> None:
    refused = {chr(one) for one in range(0x110000) if control_problem(f"é{chr(one)}") is not None}
    assert refused == {chr(one) for one in (*range(0x20), *range(0x7F, 0xA0))} - set(WHITE_SPACE)
    assert refused == {chr(one) for one in range(0x200) if re.fullmatch(f"[{CONTROLS}]", chr(one))}
    assert control_problem("a\x1fb") == "must not contain the control character U+001F"
