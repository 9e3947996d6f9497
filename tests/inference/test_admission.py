"""Admission: the next request to run, and its fit in memory."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.inference.admission import KV_STEP_TOKENS, AdmissionLimits, FairQueue, fits, most_positions


def numbers() -> FairQueue[int]:
    return FairQueue(lambda one: one)


@given(
    waiting=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 100), min_size=1),
    served=st.integers(0, 60),
)
def test_p09_a_newcomer_is_served_within_one_round_however_much_the_others_queue(
    waiting: dict[str, int], served: int
) -> None:
    queue: FairQueue[str] = FairQueue(lambda _: 1)
    for client, count in waiting.items():
        for _ in range(count):
            queue.push(client, client)
    for _ in range(min(served, len(queue))):
        queue.pop()
    queue.push("newcomer", "newcomer")
    before = []
    while (client := queue.pop()) != "newcomer":
        before.append(client)
    assert max(Counter(before).values(), default=0) <= 1, "nobody is served twice before the newcomer"


def test_one_client_with_a_hundred_requests_delays_another_by_one() -> None:
    queue: FairQueue[str] = FairQueue(lambda _: 1)
    for number in range(100):
        queue.push("greedy", f"greedy {number}")
    for number in range(3):
        queue.push("modest", f"modest {number}")
    order = [queue.pop() for _ in range(6)]
    assert order == ["greedy 0", "modest 0", "greedy 1", "modest 1", "greedy 2", "modest 2"]


def test_a_request_pushed_first_comes_before_the_others_of_its_client() -> None:
    queue = numbers()
    queue.push("a", 1)
    queue.push("a", 2, first=True)
    assert [queue.pop(), queue.pop()] == [2, 1]


def test_popping_from_an_empty_queue_raises() -> None:
    with pytest.raises(IndexError):
        numbers().pop()
    assert numbers().peek() is None


class _QueueMachine(RuleBasedStateMachine):
    """The queue against a plain list for each client."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = numbers()
        self.model: defaultdict[str, list[int]] = defaultdict(list)
        self.next = 0

    @rule(client=st.sampled_from("abc"), first=st.booleans())
    def push(self, client: str, first: bool) -> None:
        self.next += 1
        self.queue.push(client, self.next, first=first)
        self.model[client].insert(0 if first else len(self.model[client]), self.next)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def pop(self) -> None:
        expected = self.queue.peek()
        item = self.queue.pop()
        assert item == expected
        (client,) = (client for client, items in self.model.items() if items[:1] == [item])
        self.model[client].pop(0)

    @rule(client=st.sampled_from("abcd"), item=st.integers(1, 40))
    def remove(self, client: str, item: int) -> None:
        was_there = item in self.model[client]
        assert self.queue.remove(client, item) == was_there
        if was_there:
            self.model[client].remove(item)

    @invariant()
    def counts_are_exact(self) -> None:
        items = [one for queue in self.model.values() for one in queue]
        assert len(self.queue) == len(items)
        assert self.queue.tokens == sum(items)
        assert sorted(self.queue) == sorted(items)
        assert (self.queue.peek() is None) == (not items)


_QueueMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
test_counts_and_order_stay_exact_under_any_use = _QueueMachine.TestCase


def test_the_longest_row_that_fits_alone_is_told_and_is_exact() -> None:
    limits = AdmissionLimits(kv_bytes=1000 * 600 + 999, rows=1)
    assert most_positions(limits, 1000) == 600 - KV_STEP_TOKENS
    assert fits(limits, [], 600 - KV_STEP_TOKENS, 1000)
    assert not fits(limits, [], 601 - KV_STEP_TOKENS, 1000)
    assert most_positions(limits, 0) is None
    assert not fits(limits, [1], 1, 0), "the second row is one too many"


@given(
    lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=40),
    new=st.integers(1, 5000),
    price=st.integers(0, 100_000),
    budget=st.integers(1, 2**33),
)
def test_rows_are_priced_as_rows_times_the_longest_and_a_step_of_the_cache(
    lengths: list[int], new: int, price: int, budget: int
) -> None:
    limits = AdmissionLimits(rows=32, kv_bytes=budget)
    longest = max([*lengths, new])
    rows = len(lengths) + 1
    assert fits(limits, lengths, new, price) == (rows <= 32 and rows * (longest + KV_STEP_TOKENS) * price <= budget)


def test_one_long_row_makes_the_short_ones_as_dear() -> None:
    limits = AdmissionLimits(kv_bytes=8 * (10 + KV_STEP_TOKENS))
    assert fits(limits, [10] * 7, 10, 1)
    assert not fits(limits, [10] * 7, 11, 1)
    assert not fits(limits, [10] * 6 + [11], 10, 1)
