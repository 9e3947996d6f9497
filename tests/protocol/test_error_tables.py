"""The tables of PROTOCOL, line by line."""

from __future__ import annotations

import pytest

from protocol.errors import (
    CLOSE_CODES,
    BadMessage,
    CloseCode,
    ErrorCode,
    InvalidField,
    ProtocolFault,
    TooLarge,
    UnknownType,
)
from protocol.events import ErrorData

ERROR_CODES = [
    "bad_message",
    "unknown_type",
    "invalid_field",
    "too_large",
    "unauthorized",
    "forbidden",
    "not_found",
    "conflict",
    "overloaded",
    "rate_limited",
    "context_length_exceeded",
    "model_unavailable",
    "engine_failed",
    "unavailable",
    "deadline_exceeded",
    "shutting_down",
    "answer_too_large",
    "internal",
]
TEMPORARY = {
    "overloaded",
    "rate_limited",
    "model_unavailable",
    "engine_failed",
    "unavailable",
    "deadline_exceeded",
    "shutting_down",
}
RECONNECT = {
    1001: "after",
    1007: "no",
    1009: "no",
    1011: "yes",
    1012: "after",
    4008: "yes",
    4400: "no",
    4401: "no",
    4403: "no",
    4408: "yes",
    4409: "no",
    4429: "after",
}


def test_the_error_codes_are_those_of_the_protocol() -> None:
    assert [code.value for code in ErrorCode] == ERROR_CODES


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_says_whether_it_is_temporary(code: ErrorCode) -> None:
    assert code.is_temporary is (code.value in TEMPORARY)
    assert ErrorData(code=code, message="x").temporary is (code.value in TEMPORARY)


def test_the_close_codes_are_those_of_the_protocol() -> None:
    assert {int(code): one.reconnect for code, one in CLOSE_CODES.items()} == RECONNECT
    assert set(CLOSE_CODES) == set(CloseCode)
    assert all(one.meaning for one in CLOSE_CODES.values())


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (BadMessage, ErrorCode.BAD_MESSAGE),
        (UnknownType, ErrorCode.UNKNOWN_TYPE),
        (InvalidField, ErrorCode.INVALID_FIELD),
        (TooLarge, ErrorCode.TOO_LARGE),
    ],
)
def test_each_fault_has_its_code(fault: type[ProtocolFault], code: ErrorCode) -> None:
    assert fault("x").code is code
    assert issubclass(fault, ProtocolFault)
