"""Bounds on schemas, turns of clients and what is remembered: pure rules of the sandbox."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from actors.inference.sandbox.limits import JOB_LIMITS, JobKind
from actors.inference.sandbox.turns import Asker, Turns
from actors.inference.sandbox.verdicts import Refusal, Verdicts, digest
from actors.inference.schema_bounds import MAXIMUM_REFERENCES, check_bounds
from actors.inference.schema_errors import BadSchema
from actors.inference.text.token_text import decoding_tokenizer


def chain(length: int, link: str = "oneOf") -> dict[str, Any]:
    """A chain of references, and one property that refers into its middle first."""
    definitions: dict[str, Any] = {str(number): {link: [{"$ref": f"#/$defs/{number + 1}"}]} for number in range(length)}
    definitions[str(length)] = {"type": "integer"}
    middle = {"$ref": f"#/$defs/{length // 2}"}
    return {"properties": {"a": {"$ref": "#/$defs/0"}, "b": middle}, "$defs": definitions}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "integer", "minimum": 1e308}, "minimum of an integer"),
        ({"type": ["integer", "null"], "const": 2**63}, "const of an integer"),
        ({"items": {"type": "integer", "enum": [1, -(2**63)]}}, "enum of an integer"),
        ({"$defs": {"a": {"type": "integer", "exclusiveMaximum": -1e20}}}, "exclusiveMaximum"),
        ({"minLength": 2**31}, "minLength must be"),
        ({"anyOf": [{"maxItems": -1}]}, "maxItems must be"),
        ({"multipleOf": 0}, "multipleOf must be"),
        ({"multipleOf": 1e300}, "multipleOf must be"),
        (chain(MAXIMUM_REFERENCES), "a chain of"),
        (chain(MAXIMUM_REFERENCES, "allOf"), "a chain of"),
    ],
)
def test_jd6_what_the_engine_cannot_follow_is_refused_before_it_sees_it(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSchema, match=says) as caught:
        check_bounds(schema, field="tools[3].function.parameters")
    assert caught.value.field == "tools[3].function.parameters"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308},
        {"type": "integer", "minimum": -(2**53), "maximum": 2**53, "multipleOf": 1_048_576},
        {"properties": {"minimum": {"type": "string"}, "multipleOf": {"type": "number"}, "$ref": {"type": "string"}}},
        {"default": {"type": "integer", "minimum": 1e300}, "examples": [{"multipleOf": -3}]},
        {"enum": [1e300, "x"], "const": -1e300},
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
        {"$ref": "#/properties/a~1b/items/0", "properties": {"a/b": {"items": [{"type": "integer"}]}}},
        {"$ref": "#/nowhere/0"},
        chain(MAXIMUM_REFERENCES - 10),
        {"maxLength": True, "minimum": None},
    ],
)
def test_jd6_ordinary_schemas_are_within_the_bounds(schema: dict[str, Any]) -> None:
    check_bounds(schema)


def test_jd3_turns_go_round_and_the_last_process_is_for_another_client() -> None:
    limits = attrs.evolve(JOB_LIMITS[JobKind.SCHEMA], processes=3, processes_of_client=2, waiting_of_client=5)
    turns: Turns[str] = Turns(limits)
    for job in ("a1", "a2", "a3", "a4", "a5"):
        assert turns.may_wait(Asker("a"))
        turns.push(Asker("a"), job)
    assert not turns.may_wait(Asker("a"))
    assert [turns.start_next() for _ in range(3)] == ["a1", "a2", None]
    turns.push(Asker("b"), "b1")
    turns.push(Asker("c"), "c1")
    assert turns.start_next() == "b1"
    assert turns.start_next() is None, "all three have a job"
    turns.end(Asker("a"))
    assert turns.start_next() == "c1", "a waits behind those who came later and had none"
    assert (turns.running, turns.waiting) == (3, 3)
    assert turns.withdraw(Asker("a"), "a4")
    assert not turns.withdraw(Asker("a"), "a1"), "it runs"
    for client in ("a", "b", "c"):
        turns.end(Asker(client))
    assert [turns.start_next() for _ in range(3)] == ["a3", "a5", None]


def test_jd10_callers_that_share_a_client_id_take_turns_and_leave_one_process_to_others() -> None:
    limits = attrs.evolve(JOB_LIMITS[JobKind.SCHEMA], processes=4, processes_of_client=2, waiting_of_client=4)
    turns: Turns[str] = Turns(limits)
    greedy, other, third, named = Asker("local", "1"), Asker("local", "2"), Asker("local", "3"), Asker("named")
    for job in ("g1", "g2", "g3"):
        turns.push(greedy, job)
    assert [turns.start_next() for _ in range(3)] == ["g1", "g2", None], "two processes are one caller's most"
    turns.push(other, "o1")
    turns.push(third, "t1")
    turns.push(named, "n1")
    assert turns.start_next() == "n1", "a client with nothing running comes first"
    assert turns.start_next() == "o1", "who came later and has none is before who has two"
    turns.end(named)
    assert turns.start_next() is None, "the last process is for another client"
    turns.push(named, "n2")
    assert turns.start_next() == "n2"
    turns.end(greedy)
    assert turns.start_next() == "t1"
    assert turns.may_wait(Asker("local", "new"))
    for job in ("x1", "x2", "x3"):
        turns.push(Asker("local", job), job)
    assert not turns.may_wait(Asker("local", "new")), "all callers of one id have one bound together"
    assert turns.withdraw(Asker("local", "x2"), "x2")
    assert not turns.withdraw(Asker("local", "x2"), "x2")
    for asker in (other, greedy, third, named):
        turns.end(asker)
    assert [turns.start_next() for _ in range(4)] == ["g3", "x1", "x3", None]
    assert (turns.waiting, turns.running) == (0, 3)


def unnamed(address: str, port: int) -> Asker:
    return Asker("local", f"{address}:{port}")


def test_jd12_addresses_that_share_a_client_id_take_turns_however_many_connections_each_has() -> None:
    limits = attrs.evolve(JOB_LIMITS[JobKind.SCHEMA], processes=4, processes_of_client=2, waiting_of_client=100)
    turns: Turns[str] = Turns(limits)
    for port in range(50):
        turns.push(unnamed("10.0.0.1", port), f"many {port}")
    turns.push(unnamed("10.0.0.2", 1), "one")
    turns.push(unnamed("[::1]", 1), "other")
    assert [turns.start_next() for _ in range(4)] == ["many 0", "one", "other", None]
    turns.end(unnamed("10.0.0.2", 1))
    turns.push(unnamed("10.0.0.2", 2), "again")
    assert turns.start_next() == "again", "an address with nothing running comes first"
    turns.end(unnamed("10.0.0.1", 0))
    assert turns.start_next() == "many 1"


def test_jd13_whoever_fills_the_queue_of_a_shared_client_id_makes_room_for_others() -> None:
    limits = attrs.evolve(JOB_LIMITS[JobKind.SCHEMA], processes=1, processes_of_client=1, waiting_of_client=8)
    turns: Turns[str] = Turns(limits)
    for number in range(8):
        turns.push(unnamed("10.0.0.1", number % 2), f"greedy {number}")
    stranger, own = unnamed("10.0.0.2", 1), unnamed("10.0.0.1", 9)
    assert not turns.may_wait(stranger)
    assert turns.make_room(stranger) == (unnamed("10.0.0.1", 0), "greedy 6")
    turns.push(stranger, "stranger")
    assert turns.make_room(own) == (unnamed("10.0.0.1", 1), "greedy 7"), "the same among connections of one address"
    turns.push(own, "own")
    for number in range(2):
        turns.push(unnamed("10.0.0.2", number), f"more {number}")
        assert turns.make_room(unnamed("10.0.0.1", 1)) is None, "who has most has to go itself"
    found = []
    while turns.waiting:
        found.append(turns.start_next())
        for address, port in (("10.0.0.1", 0), ("10.0.0.1", 1), ("10.0.0.1", 9), ("10.0.0.2", 0), ("10.0.0.2", 1)):
            turns.end(unnamed(address, port))
    assert found.index("stranger") <= 1
    assert sorted(found) == sorted(
        [*(f"greedy {number}" for number in range(6)), "stranger", "own", "more 0", "more 1"]
    )


def test_jd2_verdicts_are_bounded_and_the_one_asked_for_last_stays_longest() -> None:
    verdicts = Verdicts(kept=2)
    bad = Refusal(field="response_schema", problem="never ends")
    verdicts.note(b"a", bad)
    verdicts.note(b"b", None)
    assert verdicts.refusal(b"a") == bad
    verdicts.note(b"c", None)
    assert [verdicts.is_known(key) for key in (b"a", b"b", b"c")] == [True, False, True]
    assert verdicts.refusal(b"c") is None
    assert len(verdicts) == 2


def test_parts_of_a_digest_do_not_run_into_each_other() -> None:
    assert digest((b"ab", b"c")) != digest((b"a", b"bc"))


@pytest.mark.parametrize(
    "decoder",
    [
        {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""},
        {
            "type": "Sequence",
            "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}],
        },
        {"type": "Unheard"},
        "ByteLevel",
    ],
)
def test_jd1_a_decoder_with_a_pattern_is_refused(decoder: Any) -> None:
    with pytest.raises(ValueError, match="is not supported"):
        decoding_tokenizer({"decoder": decoder, "model": {"vocab": {}}})
