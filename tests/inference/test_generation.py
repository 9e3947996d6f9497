"""A generation in progress: tokens become events, and any subscriber can resume from its position."""

import math
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.generation import Generation
from actors.inference.messages import GenerationDone, GenerationEvent, GenerationTokens, ResumeFrom
from actors.inference.poison_requests import MAXIMUM_DEATHS, MAXIMUM_STRIKES, STEPS_TO_CLEAR
from actors.inference.text.text_model import MockText
from protocol.commands import Generate
from protocol.events import Done, FinishReason

from .test_stop_matcher import cut_before_the_earliest_stop

SEED = 7


@attrs.define
class Token:
    """The worker's report of one token."""

    token_id: int
    log_probability: float
    finish: str | None


def worker_tokens(answer: Sequence[int], max_tokens: int, *, after: int = 0) -> list[Token]:
    """The tokens that a worker emits for an answer of these bytes, from a position on; the values are sums of powers of two."""
    tokens = []
    for position, token_id in enumerate([*answer, MockText.END][:max_tokens]):
        finish = "stop" if token_id == MockText.END else "length" if position + 1 == max_tokens else None
        tokens.append(Token(token_id, -(position % 8) / 8, finish))
    return tokens[after:]


class Follower:
    """A generation and what its follower has received."""

    def __init__(self, stops: Sequence[str] = (), max_tokens: int = 1000) -> None:
        self.events: list[GenerationEvent] = []
        self.generation = Generation(
            stream="s",
            client_id="c",
            generate=Generate(prompt="x", stop=list(stops)),
            seed=SEED,
            prompt_ids=[1, 2, 3],
            max_tokens=max_tokens,
            detokenizer=MockText().detokenizer(),
            deliver=self.events.append,
            accepted_at=100.0,
        )

    def take(self, tokens: Sequence[Token]) -> Done:
        """Feed tokens until the answer is complete."""
        if not self.generation.has_finished:
            for number, token in enumerate(tokens):
                self.generation.advance(token.token_id, token.log_probability, token.finish, 101.0 + number)
                if self.generation.has_finished:
                    break
        return self.generation.complete(200.0)

    @property
    def texts(self) -> list[GenerationTokens]:
        return [one for one in self.events if isinstance(one, GenerationTokens)]

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.texts)


def as_told(events: Sequence[GenerationEvent]) -> list[GenerationEvent]:
    """Events without what a recovery may change: times."""
    return [
        attrs.evolve(one, done=attrs.evolve(one.done, timings=None))
        if isinstance(one, GenerationDone)
        else attrs.evolve(one, first_times=None)
        if isinstance(one, GenerationTokens)
        else one
        for one in events
    ]


_ANSWERS = st.text("abé€😀", max_size=12).map(str.encode) | st.binary(max_size=16)
_STOPS = st.lists(st.text("abé", min_size=1, max_size=3), max_size=2)


@settings(max_examples=200)
@given(answer=_ANSWERS, stops=_STOPS, max_tokens=st.integers(1, 20))
def test_resumed_at_any_position_the_rest_is_as_it_would_have_been(
    answer: bytes, stops: list[str], max_tokens: int
) -> None:
    undisturbed = Follower(stops, max_tokens)
    undisturbed.take(worker_tokens(answer, max_tokens))
    for received in range(len(undisturbed.events)):
        heard = undisturbed.texts[:received]
        point = ResumeFrom(
            seq=received,
            token_ids=tuple(token_id for one in heard for token_id in one.token_ids),
            log_probability=sum(one.log_probability for one in heard),
            seed=SEED,
        )
        resumed = Follower(stops, max_tokens)
        told = resumed.generation.resume(point)
        assert [(one.seq, one.text, one.index, one.token_ids) for one in told] == [
            (one.seq, one.text, one.index, one.token_ids) for one in heard
        ]
        resumed.take(worker_tokens(answer, max_tokens, after=len(point.token_ids)))
        assert as_told(resumed.events) == as_told(undisturbed.events[received:])


@given(answer=_ANSWERS, stops=_STOPS, max_tokens=st.integers(1, 20))
def test_events_add_up_to_the_whole(answer: bytes, stops: list[str], max_tokens: int) -> None:
    subscriber = Follower(stops, max_tokens)
    done = subscriber.take(worker_tokens(answer, max_tokens))
    generation = subscriber.generation
    whole = answer[:max_tokens].decode("utf-8", "replace")
    before_stop = cut_before_the_earliest_stop(whole, stops)
    assert subscriber.text == (whole if before_stop is None else before_stop)
    assert [one.seq for one in subscriber.events] == list(range(1, len(subscriber.events) + 1))
    told = [token_id for one in subscriber.texts for token_id in one.token_ids]
    assert told == generation.emitted_ids[: len(told)], "ids are told in order, each once"
    assert all(one.text for one in subscriber.texts)
    for at, one in enumerate(subscriber.texts):
        assert one.index == sum(len(earlier.token_ids) for earlier in subscriber.texts[: at + 1]) - 1
    assert done.usage.completion_tokens == len(generation.emitted_ids)
    log_probabilities = [one.log_probability for one in worker_tokens(answer, max_tokens)]
    assert generation.log_probability == pytest.approx(sum(log_probabilities[: len(generation.emitted_ids)]))
    if generation.emitted_ids:
        mean = generation.log_probability / len(generation.emitted_ids)
        assert done.confidence == pytest.approx(math.exp(mean))
    else:
        assert done.confidence is None


def test_a_character_of_several_tokens_is_told_when_it_is_whole() -> None:
    subscriber = Follower()
    subscriber.take(worker_tokens("a😀b".encode(), 100))
    assert [(one.text, len(one.token_ids)) for one in subscriber.texts] == [("a", 1), ("😀", 4), ("b", 1)]


def test_a_stop_text_ends_the_answer_with_the_token_that_completes_it() -> None:
    subscriber = Follower(["STOP"])
    tokens = worker_tokens(b"one STOP two", 100)
    for number, token in enumerate(tokens[:8]):
        assert not subscriber.generation.has_finished, number
        subscriber.generation.advance(token.token_id, token.log_probability, token.finish, 1.0)
    assert subscriber.generation.has_finished
    assert subscriber.generation.complete(2.0).finish_reason is FinishReason.STOP
    assert subscriber.text == "one "


def test_what_was_held_back_is_told_when_the_answer_ends() -> None:
    subscriber = Follower(["STOP"])
    assert subscriber.take(worker_tokens(b"one ST", 100)).finish_reason is FinishReason.STOP
    assert subscriber.text == "one ST"
    subscriber = Follower(["STOP"], max_tokens=5)
    assert subscriber.take(worker_tokens(b"one ST", 5)).finish_reason is FinishReason.LENGTH
    assert subscriber.text == "one S"


def test_the_last_event_tells_times_counts_and_seed() -> None:
    subscriber = Follower()
    subscriber.generation.admitted_at = 100.25
    done = subscriber.take(worker_tokens(b"abc", 100))
    assert done.seed == SEED
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (3, 3)
    assert done.timings.queued_ms == 250
    assert done.timings.first_token_ms == 1000
    assert done.timings.total_ms == 100_000
    assert done.timings.tokens_per_second == 1.0, "two gaps in two seconds"


def steps(generation: Generation, count: int) -> None:
    """Admits it and runs that many steps with it."""
    generation.steps_since_admission = count


def test_the_third_charge_ends_it() -> None:
    generation = Follower().generation
    verdicts = []
    for _ in range(MAXIMUM_STRIKES):
        steps(generation, STEPS_TO_CLEAR - 1)
        verdicts.append(generation.worker_died())
    assert verdicts == [False, False, True]


def test_deaths_after_two_steps_charge_nobody_and_the_twentieth_ends_it() -> None:
    generation = Follower().generation
    verdicts = []
    for _ in range(MAXIMUM_DEATHS):
        steps(generation, STEPS_TO_CLEAR)
        verdicts.append(generation.worker_died())
    assert verdicts == [False] * 19 + [True]
    assert generation.death_record.strikes == 0


def test_a_charged_request_runs_alone_until_two_steps_acquit_it() -> None:
    generation = Follower().generation
    assert not generation.must_run_alone
    steps(generation, 0)
    generation.worker_died()
    steps(generation, 0)
    assert generation.must_run_alone
    steps(generation, STEPS_TO_CLEAR)
    assert not generation.must_run_alone
    generation.worker_died()
    steps(generation, 0)
    assert not generation.must_run_alone, "the newest death was not charged to it"
    assert generation.death_record.strikes == 0


def test_somebody_who_kills_workers_again_and_again_poisons_no_request() -> None:
    generation = Follower().generation
    for _ in range(MAXIMUM_STRIKES + 1):
        # Behind others it comes to no step in time; then, alone, it does.
        steps(generation, 0)
        assert not generation.worker_died()
        steps(generation, STEPS_TO_CLEAR)
        assert not generation.worker_died()


def test_times_and_what_was_cached_outlive_the_owner_of_a_stream() -> None:
    undisturbed = Follower()
    undisturbed.generation.admitted_at, undisturbed.generation.cached_tokens = 100.25, 2
    done = undisturbed.take(worker_tokens(b"abcdef", 100))
    heard = undisturbed.texts[:2]
    point = ResumeFrom(
        seq=2,
        token_ids=tuple(token_id for one in heard for token_id in one.token_ids),
        log_probability=sum(one.log_probability for one in heard),
        seed=SEED,
        first_times=heard[-1].first_times,
    )
    resumed = Follower()
    resumed.generation.accepted_at = 102.5
    assert all(one.first_times == point.first_times for one in resumed.generation.resume(point))
    resumed.generation.admitted_at = resumed.generation.admitted_at or 102.75
    for number, token in enumerate(worker_tokens(b"abcdef", 100, after=2)):
        resumed.generation.advance(token.token_id, token.log_probability, token.finish, 103.0 + number)
    again = resumed.generation.complete(200.0)
    assert (again.timings, again.usage) == (done.timings, done.usage)
    assert resumed.texts[-1].first_times == point.first_times
