"""Every field of every command refuses every JSON type but its own, and names itself by its path."""

from __future__ import annotations

import json
from typing import Any

import attrs
import cattrs
import pytest

from protocol.codec import decode_command, prepare_hooks, structure, unstructure
from protocol.commands import (
    COMMANDS,
    KIBIBYTE,
    MAXIMUM_FRAME_BYTES,
    Cancel,
    Generate,
    Hello,
    Ping,
    ResumePoint,
    Role,
)
from protocol.errors import BadMessage, InvalidField, ProtocolFault, TooLarge, UnknownType
from tests.protocol.command_samples import FREE, SAMPLES, VALID, least_data, wrong_values


def frame(kind: str, data: Any = None, **envelope: Any) -> str:
    message: dict[str, Any] = {"type": kind, "id": "1", **envelope}
    if data is not None:
        message["data"] = data
    return json.dumps(message)


WRONG = list(wrong_values())


@pytest.mark.parametrize("kind", sorted(VALID))
def test_a_field_of_a_wrong_type_is_refused_and_named(kind: str) -> None:
    """P1: every wrong JSON type for every field of every command."""
    for path, data, sample in [case for name, *case in WRONG if name == kind]:
        with pytest.raises(InvalidField) as caught:
            decode_command(frame(kind, data))
        assert (caught.value.field, caught.value.command_id) == (path, "1"), f"{sample} for {path}"


def test_the_generated_cases_cover_every_command_with_fields() -> None:
    with_fields = {
        kind for kind, command in COMMANDS.items() if command.data not in FREE and attrs.fields(command.data)
    }
    assert {kind for kind, *_ in WRONG} == with_fields
    assert len(WRONG) > 120


@pytest.mark.parametrize("kind", sorted(VALID))
def test_the_least_data_of_each_command_is_taken(kind: str) -> None:
    assert isinstance(decode_command(frame(kind, VALID[kind])).data, COMMANDS[kind].data)


def test_all_hooks_are_built_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message of a type costs no more than the next."""

    def too_late(cls: Any, *_: Any, **__: Any) -> None:
        raise AssertionError(f"a hook for {cls} is built when a message comes")

    prepare_hooks()
    for name in ("make_dict_structure_fn", "make_dict_unstructure_fn", "make_mapping_structure_fn"):
        monkeypatch.setattr(cattrs.gen, name, too_late)
    for kind, data in VALID.items():
        unstructure(decode_command(frame(kind, data)).data)
    for kind, _, data, _ in WRONG:
        with pytest.raises(InvalidField) as caught:
            decode_command(frame(kind, data))
        assert "when a message comes" not in caught.value.message
    with pytest.raises(InvalidField, match="when a message comes"):
        structure({"is_on": True}, attrs.make_class("New", {"is_on": attrs.field(type=bool)}))


@pytest.mark.parametrize("kind", sorted(VALID))
@pytest.mark.parametrize("sample", sorted(set(SAMPLES) - {"object"}))
def test_data_that_is_no_object_is_refused(kind: str, sample: str) -> None:
    text = json.dumps({"type": kind, "id": "1", "data": SAMPLES[sample]})
    with pytest.raises(InvalidField) as caught:
        decode_command(text)
    assert caught.value.field == "data"


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        ("hello", {}, "data.client_id"),
        ("hello", {"client_id": "me", "colour": "red"}, "data.colour"),
        ("hello", {"client_id": "-me"}, "data.client_id"),
        ("hello", {"client_id": "m" * 65}, "data.client_id"),
        ("hello", {"client_id": "me\n"}, "data.client_id"),
        ("hello", {"client_id": "é"}, "data.client_id"),
        ("hello", {"client_id": "me", "device_id": ""}, "data.device_id"),
        ("hello", {"client_id": "me", "token": ""}, "data.token"),
        ("hello", {"client_id": "me", "agent": "a" * 257}, "data.agent"),
        ("hello", {"client_id": "me", "resume": [{"stream": "s", "epoch": "e"}]}, "data.resume[0].seq"),
        ("hello", {"client_id": "me", "resume": [{"stream": "s", "epoch": "e", "seq": -1}]}, "data.resume[0].seq"),
        ("generate", {}, "data.messages"),
        ("generate", {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "data.messages"),
        ("generate", {"prompt": ""}, "data.prompt"),
        ("generate", {"messages": []}, "data.messages"),
        ("generate", {"messages": [{"role": "robot", "content": "b"}]}, "data.messages[0].role"),
        ("generate", {"messages": [{"role": "user", "content": "b"}, {"role": "user"}]}, "data.messages[1].content"),
        ("generate", {"messages": [{"role": "user", "content": "b", "name": "x"}]}, "data.messages[0].name"),
        ("generate", {"prompt": "a", "max_tokens": -1}, "data.max_tokens"),
        ("generate", {"prompt": "a", "max_tokens": 0}, "data.max_tokens"),
        ("generate", {"prompt": "a", "max_tokens": 2**31 + 1}, "data.max_tokens"),
        ("generate", {"prompt": "a", "temperature": -0.1}, "data.temperature"),
        ("generate", {"prompt": "a", "temperature": 5.1}, "data.temperature"),
        ("generate", {"prompt": "a", "top_p": 0}, "data.top_p"),
        ("generate", {"prompt": "a", "top_k": 0}, "data.top_k"),
        ("generate", {"prompt": "a", "min_p": 1.5}, "data.min_p"),
        ("generate", {"prompt": "a", "repetition_penalty": 0}, "data.repetition_penalty"),
        ("generate", {"prompt": "a", "presence_penalty": 3}, "data.presence_penalty"),
        ("generate", {"prompt": "a", "frequency_penalty": -3}, "data.frequency_penalty"),
        ("generate", {"prompt": "a", "logit_bias": {"x": 1}}, "data.logit_bias.x"),
        ("generate", {"prompt": "a", "logit_bias": {"٣": 1}}, "data.logit_bias.٣"),
        ("generate", {"prompt": "a", "logit_bias": {"3": 101}}, "data.logit_bias.3"),
        ("generate", {"prompt": "a", "logit_bias": {"3": "much"}}, "data.logit_bias.3"),
        ("generate", {"prompt": "a", "seed": -1}, "data.seed"),
        ("generate", {"prompt": "a", "stop": ["x"] * 17}, "data.stop"),
        ("generate", {"prompt": "a", "stop": ["x", ""]}, "data.stop[1]"),
        ("generate", {"prompt": "a", "logprobs": 21}, "data.logprobs"),
        ("generate", {"prompt": "a", "response_schema": {"a": "b" * 65 * KIBIBYTE}}, "data.response_schema"),
        ("generate", {"prompt": "a", "deadline_ms": 0}, "data.deadline_ms"),
        ("generate", {"prompt": "a", "conversation": "a b"}, "data.conversation"),
        ("generate", {"prompt": "a", "on_disconnect": "explode"}, "data.on_disconnect"),
        ("cancel", {"target": ""}, "data.target"),
        ("notification_list", {"limit": 0}, "data.limit"),
        ("notification_list", {"limit": 201}, "data.limit"),
        ("notification_list", {"cursor": ""}, "data.cursor"),
        ("notification_read", {"notification_ids": []}, "data.notification_ids"),
        ("notification_read", {"notification_ids": ["n"] * 201}, "data.notification_ids"),
        ("notification_preferences", {"device_id": "a b"}, "data.device_id"),
        *(
            ("notification_preferences", {"preferences": preferences}, f"data.preferences.{field}")
            for preferences, field in (
                ({"event_types": ["task_moved", "nonsense"]}, "event_types[1]"),
                ({"channels": ["fax"]}, "channels[0]"),
                ({"min_priority": "some"}, "min_priority"),
                ({"quiet_hours": {"start": "24:00", "end": "07:00"}}, "quiet_hours.start"),
                ({"quiet_hours": {"start": "22:00", "end": "7:00"}}, "quiet_hours.end"),
                ({"quiet_hours": {"start": "22:00", "end": "22:00"}}, "quiet_hours.end"),
                ({"quiet_hours": {"start": "22:00"}}, "quiet_hours.end"),
                ({"quiet_hours": {"start": "1:00", "end": "2:00", "timezone": "UTC"}}, "quiet_hours.start"),
                ({"quiet_hours": {"start": "01:00", "end": "02:00", "timezone": "Mars/Base"}}, "quiet_hours.timezone"),
                ({"quiet_hours": {"start": "01:00", "end": "02:00", "timezone": "../etc"}}, "quiet_hours.timezone"),
                ({"rate_limit": {"count": 0, "seconds": 1}}, "rate_limit.count"),
                ({"rate_limit": {"count": 1, "seconds": 86_401}}, "rate_limit.seconds"),
                ({"ai_notifications": 1}, "ai_notifications"),
                ({"locale": "no language"}, "locale"),
            )
        ),
        ("device_register", {"platform": "fax"}, "data.platform"),
        ("device_register", {"platform": "ios"}, "data.token"),
        ("device_register", {"platform": "ios", "token": "xyz"}, "data.token"),
        ("device_register", {"platform": "ios", "token": "ab" * 32, "environment": "moon"}, "data.environment"),
        ("device_register", {"platform": "ios", "token": "ab" * 32, "topic": "a b"}, "data.topic"),
        ("device_register", {"platform": "ios", "token": "ab" * 32, "url": "https://a.example/"}, "data.url"),
        ("device_register", {"platform": "webhook", "url": "https://a.example/"}, "data.secret"),
        ("device_register", {"platform": "webhook", "url": "https://a.example/", "secret": "short"}, "data.secret"),
        *(
            ("device_register", {"platform": "webhook", "secret": "s" * 16, "url": url}, "data.url")
            for url in (
                "http://a.example/",
                "https:///nothing",
                "https://user@a.example/",
                "https://a.example:port/",
                "https://a.example/ x",
                "https://ä.example/",
                "file:///etc/passwd",
                "https://[::1",
            )
        ),
        (
            "device_register",
            {"platform": "webhook", "secret": "s" * 16, "url": "https://a.example/", "environment": "sandbox"},
            "data.environment",
        ),
        ("device_register", {"platform": "web"}, "data.subscription"),
        (
            "device_register",
            {
                "platform": "web",
                "subscription": {"endpoint": "https://a.example/", "keys": {"p256dh": "*" * 87, "auth": "a" * 22}},
            },
            "data.subscription.keys.p256dh",
        ),
        ("device_register", {"platform": "ios", "token": "ab" * 32, "timezone": "Mars/Base"}, "data.timezone"),
        ("device_remove", {"device_id": ""}, "data.device_id"),
        ("cancel", {}, "data.target"),
    ],
)
def test_a_value_out_of_bounds_is_refused_and_named(kind: str, data: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        decode_command(frame(kind, data))
    assert caught.value.field == field
    assert caught.value.message.startswith(field)


def test_what_is_right_is_taken_as_it_is() -> None:
    hello = decode_command(frame("hello", {"client_id": "me", "resume": [least_data(ResumePoint)]})).data
    assert isinstance(hello, Hello)
    assert (hello.client_id, hello.device_id, hello.resume[0].seq) == ("me", "default", 1)
    generate = decode_command(
        frame("generate", {"messages": [{"role": "system", "content": ""}], "temperature": 1, "logit_bias": {"3": -1}})
    ).data
    assert isinstance(generate, Generate)
    assert generate.messages is not None
    assert generate.messages[0].role is Role.SYSTEM
    assert type(generate.temperature) is float
    assert generate.logit_bias == {"3": -1.0}
    assert decode_command(frame("cancel", {"target": "x"})).data == Cancel("x")


def test_an_integer_may_be_written_with_a_point_as_json_schema_has_it() -> None:
    written = decode_command(frame("generate", {"prompt": "x", "max_tokens": 3.0, "seed": float(2**53)})).data
    assert isinstance(written, Generate)
    assert (written.max_tokens, written.seed) == (3, 2**53)
    assert type(written.max_tokens) is int


@pytest.mark.parametrize("value", [3.5, 2.0**53 + 2, 1e300])
def test_what_is_no_whole_number_within_bounds_is_no_integer(value: float) -> None:
    with pytest.raises(InvalidField, match="must be an integer, not a number") as caught:
        decode_command(frame("generate", {"prompt": "x", "seed": value}))
    assert caught.value.field == "data.seed"


@pytest.mark.parametrize("sample", sorted(SAMPLES))
def test_a_ping_may_carry_anything(sample: str) -> None:
    received = decode_command(json.dumps({"type": "ping", "id": "p", "data": SAMPLES[sample]}))
    assert received.data == Ping(SAMPLES[sample])


@attrs.frozen
class Switch:
    """No command has a boolean yet; those that come will be as strict."""

    is_on: bool


@pytest.mark.parametrize("value", [0, 1, "true", "FALSE", None, [], 1.0])
def test_only_true_and_false_are_booleans(value: Any) -> None:
    assert structure({"is_on": True}, Switch) == Switch(True)
    with pytest.raises(InvalidField) as caught:
        structure({"is_on": value}, Switch, prefix="body")
    assert caught.value.field == "body.is_on"


def test_secrets_stay_out_of_representations() -> None:
    received = decode_command(frame("hello", {"client_id": "me", "token": "sesame"}))
    assert "sesame" not in repr(received)


# --- the envelope -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "i" * 65, "a\x1fb", "é", "tab\t", 5, None, ["a"], {}, True])
def test_an_id_that_is_not_printable_ascii_is_refused(value: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        decode_command(json.dumps({"type": "ping", "id": value}))
    assert caught.value.field == "id"
    assert caught.value.command_id is None


@pytest.mark.parametrize("value", [" ", "~", "i" * 64, "a b/c"])
def test_an_id_of_printable_ascii_is_taken(value: str) -> None:
    assert decode_command(json.dumps({"type": "ping", "id": value})).id == value


def test_a_pong_needs_no_id_but_a_wrong_one_is_refused() -> None:
    assert decode_command('{"type":"pong"}').id is None
    with pytest.raises(InvalidField):
        decode_command('{"type":"pong","id":""}')


@pytest.mark.parametrize("kind", ["hello", "ping", "generate", "cancel"])
def test_a_command_with_an_answer_needs_an_id(kind: str) -> None:
    with pytest.raises(InvalidField) as caught:
        decode_command(json.dumps({"type": kind, "data": VALID.get(kind, {})}))
    assert caught.value.field == "id"


def test_an_unknown_type_is_named_with_the_id_of_its_command() -> None:
    with pytest.raises(UnknownType) as caught:
        decode_command(frame("teleport"))
    assert (caught.value.field, caught.value.command_id) == ("type", "1")
    assert "teleport" in caught.value.message


@pytest.mark.parametrize("value", [None, 1, [], {}, True])
def test_a_type_that_is_no_string_is_refused(value: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        decode_command(json.dumps({"type": value, "id": "1"}))
    assert caught.value.field == "type"


def test_an_unknown_field_of_the_envelope_is_refused() -> None:
    with pytest.raises(InvalidField) as caught:
        decode_command(frame("ping", colour="red"))
    assert caught.value.field == "colour"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"type": "ping", "id": "1", "x" * 50_000: 1}),
        frame("cancel", {"target": "1", "x" * 50_000: 1}),
        frame("generate", {"prompt": "a", "logit_bias": {"1" * 50_000: 1}}),
        frame("generate", {"prompt": "a", "logit_bias": {"x" * 50_000: "much"}}),
        frame("x" * 50_000),
    ],
)
def test_a_huge_name_is_not_sent_back_whole(text: str) -> None:
    with pytest.raises(ProtocolFault) as caught:
        decode_command(text)
    assert len(caught.value.message) < 500
    assert len(caught.value.field or "") < 200


# --- sizes --------------------------------------------------------------------------------------------


def sized(kind: str, data: dict[str, Any], path: str, size: int) -> str:
    """A frame of exactly ``size`` bytes."""
    text = frame(kind, {**data, path: ""})
    return frame(kind, {**data, path: "a" * (size - len(text))})


def test_a_generate_may_have_a_mebibyte_and_not_a_byte_more() -> None:
    assert isinstance(decode_command(sized("generate", {}, "prompt", MAXIMUM_FRAME_BYTES)).data, Generate)
    with pytest.raises(TooLarge):
        decode_command(sized("generate", {}, "prompt", MAXIMUM_FRAME_BYTES + 1))


@pytest.mark.parametrize(
    ("kind", "path"), [("ping", "text"), ("pong", "text"), ("hello", "agent"), ("cancel", "target")]
)
def test_other_commands_may_have_64_kibibytes(kind: str, path: str) -> None:
    with pytest.raises(TooLarge) as caught:
        decode_command(sized(kind, VALID.get(kind, {}), path, 64 * KIBIBYTE + 1))
    assert caught.value.command_id == "1"
    assert "65536" in caught.value.message


def test_a_ping_of_exactly_64_kibibytes_is_taken() -> None:
    decode_command(sized("ping", {}, "text", 64 * KIBIBYTE))


def test_sizes_are_counted_in_bytes_and_not_in_characters() -> None:
    text = '{"type":"ping","id":"1","data":"' + "é" * 40_000 + '"}'
    assert len(text) < 64 * KIBIBYTE
    with pytest.raises(TooLarge):
        decode_command(text)


def test_every_command_has_a_limit_within_the_frame() -> None:
    assert {command.maximum_bytes for command in COMMANDS.values()} == {64 * KIBIBYTE, MAXIMUM_FRAME_BYTES}
    assert [kind for kind, one in COMMANDS.items() if one.maximum_bytes == MAXIMUM_FRAME_BYTES] == [
        "generate",
        "assist",
    ]


def test_text_and_bytes_are_read_alike() -> None:
    text = frame("ping", {"a": "é"})
    assert decode_command(text) == decode_command(text.encode())
    with pytest.raises(BadMessage):
        decode_command(b'{"type":"ping","id":"1","data":"\xff"}')
