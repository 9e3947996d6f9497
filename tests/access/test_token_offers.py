"""Codes that create a token: usable once, for a short time, and hard to guess."""

from __future__ import annotations

import gc

import pytest

from actors.access.messages import CreateToken
from actors.access.token_offers import MAXIMUM_OFFERS, OFFER_SECONDS, WRONG_CODES, WRONG_SECONDS, TokenOffers
from actors.errors import CommandError
from protocol.errors import ErrorCode

ANN = CreateToken(client_ids=("ann",))


def refusal(offers: TokenOffers, code: str, now: float) -> CommandError:
    with pytest.raises(CommandError) as caught:
        offers.take(code, now)
    return caught.value


def test_en1_a_code_is_good_for_once_and_for_a_short_time() -> None:
    offers = TokenOffers()
    code = offers.offer(ANN, 0.0)
    assert offers.take(code, OFFER_SECONDS - 0.001) is ANN
    used = refusal(offers, code, OFFER_SECONDS - 0.001)
    assert (used.code, "was used" in used.message) == (ErrorCode.UNAUTHORIZED, True)
    late = offers.offer(ANN, 200.0)
    assert refusal(offers, late, 200.0 + OFFER_SECONDS).code is ErrorCode.UNAUTHORIZED
    assert len(offers) == 0, "what is too old is not kept"


def test_en1_codes_are_random_and_only_hashes_of_them_are_kept() -> None:
    offers = TokenOffers()
    codes = {offers.offer(ANN, float(number)) for number in range(MAXIMUM_OFFERS)}
    assert len(codes) == MAXIMUM_OFFERS
    assert {len(one) for one in codes} == {43}, "32 bytes as unpadded base64"
    held = [repr(one) for one in gc.get_referents(*gc.get_referents(offers._offers), offers._offers)]
    assert [one for one in codes if any(one in text for text in held)] == []


def test_en1_the_oldest_of_too_many_gives_way() -> None:
    offers = TokenOffers()
    codes = [offers.offer(ANN, 0.0) for _ in range(MAXIMUM_OFFERS + 1)]
    assert len(offers) == MAXIMUM_OFFERS
    assert refusal(offers, codes[0], 1.0).code is ErrorCode.UNAUTHORIZED
    assert offers.take(codes[-1], 1.0) is ANN


@pytest.mark.parametrize("guess", ["", "x", "\ud800", "a" * 128])
def test_en2_wrong_codes_are_slowed_down_and_cost_a_right_one_nothing(guess: str) -> None:
    offers = TokenOffers()
    code = offers.offer(ANN, 0.0)
    for number in range(WRONG_CODES):
        assert refusal(offers, guess, number).code is ErrorCode.UNAUTHORIZED
    slowed = refusal(offers, guess, WRONG_CODES)
    assert slowed.code is ErrorCode.RATE_LIMITED
    assert slowed.retry_after_ms == 1000 * (WRONG_SECONDS - WRONG_CODES)
    assert offers.take(code, WRONG_CODES) is ANN
    assert refusal(offers, guess, WRONG_SECONDS).code is ErrorCode.UNAUTHORIZED
