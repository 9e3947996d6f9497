"""Tokens as data: created once, stored as hashes, bound to client ids and roles, ended by expiry or revocation."""

from __future__ import annotations

import hmac
from typing import Any

import attrs
import pytest
from sqlalchemy import Connection, insert, select

from actors.access import tokens
from actors.access.messages import ROLES, AuthenticationError, CreateToken
from actors.access.store import (
    MAXIMUM_TOKENS,
    RevokeStored,
    forget_tokens,
    load_tokens,
    revoke_token,
    save_token,
)
from actors.access.tables import access_tokens
from actors.access.tokens import (
    StoredToken,
    TokenStore,
    checked_token,
    describe,
    digest_of,
    hide_tokens,
    new_local_token,
    new_token,
    token_id_of,
)
from actors.errors import CommandError

NOW_MS = 1_800_000_000_000


def made(**changes: Any) -> tuple[StoredToken, str]:
    return checked_token(CreateToken(**{"client_ids": ("me", "you"), **changes}), NOW_MS)


def refusal(
    book: TokenStore, token: str | None, client_id: str | None = None, now_ms: int = NOW_MS
) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        book.identity(token, client_id, now_ms)
    return caught.value


def test_a_token_has_256_random_bits_and_knows_its_id() -> None:
    token_id, text = new_token()
    assert token_id_of(text) == token_id
    assert len(text.split("_", 2)[2]) == 43, "32 bytes as unpadded base64"
    assert len({new_token()[1] for _ in range(100)}) == 100


def test_only_a_hash_is_kept_and_nothing_shows_it() -> None:
    stored, text = made()
    assert stored.digest == digest_of(text)
    secret = text.split("_", 2)[2]
    for shown in (repr(stored), repr(describe(stored)), repr(TokenStore((stored,)).snapshot(NOW_MS))):
        assert secret not in shown
        assert stored.digest not in shown


def test_a_token_opens_the_client_ids_that_it_is_bound_to() -> None:
    stored, text = made(roles=("operator",))
    book = TokenStore((stored,))
    assert book.identity(text, "you", NOW_MS).client_id == "you"
    assert book.identity(text, None, NOW_MS).client_id == "me", "the first where none is named"
    assert book.identity(text, "me", NOW_MS).domain == stored.token_id
    assert book.identity(text, "me", NOW_MS).is_operator
    assert refusal(book, text, "other").is_forbidden is True


def test_a_token_of_a_user_is_none_of_an_operator() -> None:
    stored, text = made()
    assert stored.roles == ("user",)
    assert not TokenStore((stored,)).identity(text, None, NOW_MS).is_operator


def test_the_local_token_opens_every_client_id() -> None:
    stored, text = new_local_token(NOW_MS)
    book = TokenStore((stored,))
    assert book.local() == stored
    assert book.identity(text, "anybody", NOW_MS).client_id == "anybody"
    assert book.identity(text, None, NOW_MS).client_id == "local"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text + "A",
        lambda text: text[:-1],
        lambda text: text.upper(),
        lambda text: " " + text,
        lambda text: text[:15],
        lambda text: "lv_" + "0" * 12 + text[15:],
        lambda _: "",
        lambda _: "sesame",
        lambda _: "lv_",
        lambda _: "\ud800",
        lambda _: "é" * 400,
    ],
)
def test_anything_but_the_token_is_refused_without_being_repeated(spoil: Any) -> None:
    stored, text = made()
    wrong = spoil(text)
    refused = refusal(TokenStore((stored,)), wrong)
    assert refused.is_forbidden is False
    assert not wrong or wrong not in str(refused)


def test_p13_tokens_are_compared_in_constant_time_also_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: every check goes through `hmac.compare_digest`, with digests of equal length."""
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def compare(one: str, two: str) -> bool:
        compared.append((one, two))
        return real(one, two)

    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    stored, text = made()
    book = TokenStore((stored,))
    book.identity(text, None, NOW_MS)
    refusal(book, new_token()[1])
    refusal(book, "no token at all")
    refusal(book, text[:-1] + "_")
    assert [(len(one), len(two)) for one, two in compared] == [(64, 64)] * 4


def test_a_token_ends_at_its_time() -> None:
    stored, text = made(expires_ms=NOW_MS + 10)
    book = TokenStore((stored,))
    assert book.identity(text, None, NOW_MS + 9).token_id == stored.token_id
    assert "expired" in str(refusal(book, text, now_ms=NOW_MS + 10))
    assert book.end_of(stored.token_id, NOW_MS + 9) is None
    assert book.end_of(stored.token_id, NOW_MS + 10) == "the token has expired"


def test_a_token_ends_by_the_wall_clock_also_where_that_is_set_back_by_an_hour() -> None:
    """Expiry is a point in time, not a duration: a clock that ran ahead locks nobody out for good."""
    stored, text = made(expires_ms=NOW_MS + 1000)
    book = TokenStore((stored,))
    assert str(refusal(book, text, now_ms=NOW_MS + 1000)) == "the token has expired"
    assert book.identity(text, None, NOW_MS + 1000 - 3_600_000).token_id == stored.token_id
    assert str(refusal(book, text, now_ms=NOW_MS + 1000)) == "the token has expired"


def test_a_revoked_token_permits_nothing_and_access_stays_closed() -> None:
    stored, text = made()
    book = TokenStore((attrs.evolve(stored, revoked_ms=NOW_MS),))
    assert "revoked" in str(refusal(book, text))
    assert len(book) == 1, "a server whose last token was revoked is not open to all"
    assert "needed" in str(refusal(book, None))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"client_ids": ()}, "client_ids"),
        ({"client_ids": tuple(f"c{number}" for number in range(65))}, "client_ids"),
        ({"client_ids": ("ok", "not ok")}, "client_ids[1]"),
        ({"client_ids": ("*",)}, "client_ids[0]"),
        ({"client_ids": ("a\n",)}, "client_ids[0]"),
        ({"roles": ()}, "roles"),
        ({"roles": ("user", "god")}, "roles"),
        ({"name": "x" * 65}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\x1b[31m"}, "name"),
        ({"expires_ms": NOW_MS}, "expires_ms"),
        ({"expires_ms": 2**53}, "expires_ms"),
    ],
)
def test_a_wrong_wish_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(CommandError) as caught:
        made(**changes)
    assert caught.value.field == field
    assert caught.value.code.value == "invalid_field"


def test_tokens_are_hidden_in_text() -> None:
    _, text = made()
    hidden = hide_tokens(f"before {text} after {text}")
    assert text.split("_", 2)[2] not in hidden
    assert hidden.startswith("before lv_")
    assert hide_tokens("nothing lv_ here") == "nothing lv_ here"


# --- the store ----------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded_oldest_first(connection: Connection) -> None:
    first, _ = made(name="first", roles=("operator", "user"), expires_ms=NOW_MS + 1)
    second = attrs.evolve(made()[0], created_ms=NOW_MS + 1)
    local, _ = new_local_token(NOW_MS + 2)
    for one in (second, first, local):
        save_token(connection, one)
    assert load_tokens(connection, None) == (first, second, local)
    assert first.roles == ROLES


def test_the_database_holds_no_token(connection: Connection) -> None:
    stored, text = made()
    save_token(connection, stored)
    row = connection.execute(select(access_tokens)).one()
    assert text.split("_", 2)[2] not in repr(row)


def test_a_new_local_token_takes_the_place_of_the_former(connection: Connection) -> None:
    mine, _ = made()
    save_token(connection, mine)
    save_token(connection, new_local_token(NOW_MS)[0])
    second, _ = new_local_token(NOW_MS + 1)
    save_token(connection, second)
    assert load_tokens(connection, None) == (mine, second)


def test_revoking_keeps_the_first_moment_and_refuses_strangers(connection: Connection) -> None:
    stored, _ = made()
    save_token(connection, stored)
    revoke_token(connection, RevokeStored(token_id=stored.token_id, time_ms=NOW_MS + 5))
    revoke_token(connection, RevokeStored(token_id=stored.token_id, time_ms=NOW_MS + 9))
    assert load_tokens(connection, None)[0].revoked_ms == NOW_MS + 5
    with pytest.raises(CommandError, match="no such token"):
        revoke_token(connection, RevokeStored(token_id="0" * 12, time_ms=NOW_MS))


def test_forgetting_deletes_all(connection: Connection) -> None:
    for _ in range(3):
        save_token(connection, made()[0])
    assert forget_tokens(connection, None).value == 3
    assert load_tokens(connection, None) == ()


def test_the_number_of_tokens_is_bounded_and_ended_ones_make_room(connection: Connection) -> None:
    old = {"name": "", "client_ids": '["me"]', "roles": '["user"]', "created_ms": 1, "is_local": False, "digest": "x"}
    rows = [{**old, "token_id": f"{number:012x}", "expires_ms": NOW_MS} for number in range(MAXIMUM_TOKENS)]
    connection.execute(insert(access_tokens), rows)
    stored, _ = made()
    with pytest.raises(CommandError, match="1000 tokens"):
        save_token(connection, stored)
    much_later = attrs.evolve(stored, created_ms=NOW_MS + 91 * 24 * 3600 * 1000)
    save_token(connection, much_later)
    assert load_tokens(connection, None) == (much_later,)
