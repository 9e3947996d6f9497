"""Order of the texts to embed."""

from __future__ import annotations

from actors.inference.encoder.limits import BATCH_BYTES, BATCH_TEXTS, WAITING_BYTES, WAITING_OF_CLIENT
from actors.inference.encoder.queue import EmbeddingQueue, Job


def job(client: str, texts: int = 1, size: int = 10, caller: str = "") -> Job:
    return Job(client, caller, ["x" * size] * texts)


def test_em_a_long_request_holds_nobody_up_by_more_than_a_batch() -> None:
    queue = EmbeddingQueue()
    long = job("ann", 2048)
    queue.push(long)
    assert [(one.job, one.first, one.count) for one in queue.take()] == [(long, 0, BATCH_TEXTS)]
    short = job("ben")
    queue.push(short)
    taken = queue.take()
    assert short in {one.job for one in taken}
    assert sum(one.count for one in taken) == BATCH_TEXTS


def test_em_clients_take_turns_and_so_do_callers_of_one_id() -> None:
    queue = EmbeddingQueue()
    for _ in range(3):
        queue.push(job("local", 40, BATCH_BYTES, caller="one"))
    queue.push(job("local", 1, BATCH_BYTES, caller="two"))
    queue.push(job("ann", 2, BATCH_BYTES))
    order = [(piece.job.client_id, piece.job.caller) for _ in range(5) for piece in queue.take()]
    assert order == [("local", "one"), ("ann", ""), ("local", "two"), ("ann", ""), ("local", "one")]


def test_em_a_batch_is_bounded_in_texts_and_bytes() -> None:
    queue = EmbeddingQueue()
    queue.push(job("ann", 100, 1000))
    queue.push(Job("ben", "", ["é" * 10_000_000, "a"]))
    assert sum(piece.count for piece in queue.take()) <= BATCH_BYTES // 1000
    while pieces := queue.take():
        sizes = [sum(map(len, piece.inputs)) for piece in pieces]
        assert sum(sizes) <= BATCH_BYTES or [piece.count for piece in pieces] == [1]
        assert sum(piece.count for piece in pieces) <= BATCH_TEXTS
    assert len(queue) == 0


def test_em_what_may_wait_is_bounded_for_each_client_and_in_bytes() -> None:
    queue = EmbeddingQueue()
    for _ in range(WAITING_OF_CLIENT):
        assert queue.problem(job("ann")) is None
        queue.push(job("ann"))
    assert "this client" in str(queue.problem(job("ann")))
    assert queue.problem(job("ben")) is None
    queue.push(job("ben", 1, WAITING_BYTES - 1000))
    assert "too many texts" in str(queue.problem(job("cyd", 1, 1000)))


def test_em_what_lost_a_worker_is_computed_alone_and_from_where_it_stood() -> None:
    queue = EmbeddingQueue()
    first, second = job("ann", 3), job("ben", 2)
    queue.push(first)
    queue.push(second)
    pieces = queue.take()
    assert {one.job for one in pieces} == {first, second}
    for piece in reversed(pieces):
        piece.job.tries += 1
        queue.push_back(piece)
    again = [queue.take() for _ in range(2)]
    assert sorted((len(pieces), pieces[0].first, pieces[0].count) for pieces in again) == [(1, 0, 2), (1, 0, 3)]
    assert queue.take() == []


def test_em_who_leaves_leaves_nothing_behind() -> None:
    queue = EmbeddingQueue()
    leaving, staying = job("ann", 2048), job("ann")
    queue.push(leaving)
    queue.push(staying)
    queue.take()
    queue.withdraw(leaving)
    queue.withdraw(leaving)
    assert [one.job for one in queue.take()] == [staying]
    assert len(queue) == 0
