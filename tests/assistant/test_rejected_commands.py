"""Commands that were refused late: told again in the same words, for as long as their ids are kept."""

from __future__ import annotations

import pytest

from actors.assistant.rejected_commands import KEPT_COMMANDS, KEPT_SECONDS, RejectedCommands
from actors.errors import CommandError
from actors.storage.messages import IdempotencyKey
from protocol.errors import ErrorCode


def key(command_id: str = "a", digest: str = "d") -> IdempotencyKey:
    return IdempotencyKey(client_id="me", device_id="phone", command_id=command_id, digest=digest)


REFUSAL = CommandError(ErrorCode.CONFLICT, "one at a time", field="data.conversation", current={"command": "b"})


def test_the_same_command_is_refused_in_the_same_words_for_ten_minutes() -> None:
    refused = RejectedCommands()
    refused.check(key(), 0.0)
    refused.keep(key(), REFUSAL, 0.0)
    with pytest.raises(CommandError) as again:
        refused.check(key(), KEPT_SECONDS)
    told = again.value
    assert told is not REFUSAL
    assert (told.code, told.message, told.field, told.current) == (
        ErrorCode.CONFLICT,
        "one at a time",
        "data.conversation",
        {"command": "b"},
    )
    refused.check(key(digest="e"), 1.0)
    refused.check(key("b"), 1.0)
    refused.check(key(), KEPT_SECONDS + 1)


def test_no_more_than_so_many_are_kept() -> None:
    refused = RejectedCommands()
    for number in range(KEPT_COMMANDS + 1):
        refused.keep(key(str(number)), REFUSAL, 0.0)
    refused.check(key("0"), 0.0)
    with pytest.raises(CommandError):
        refused.check(key("1"), 0.0)
