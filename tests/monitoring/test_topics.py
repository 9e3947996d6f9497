"""What is collected, and how it comes to who watches: below sockets."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from actors.connections.send_queue import SendQueue
from actors.monitoring.figures import Clocks, requests
from actors.monitoring.messages import Collected
from actors.request_log import KEPT, RequestLog, RequestTimes
from protocol.operator_topics import RequestData, Watch
from protocol.reading import read_message_data
from protocol.validation import FieldFault

CLOCKS = Clocks(now=100.0, now_ms=1_000_000)


def times(**fields: Any) -> RequestTimes:
    return RequestTimes(
        **{
            "client_id": "ann",
            "model": "mock",
            "accepted_at": 90.0,
            "admitted_at": None,
            "first_token_at": None,
            "prompt_tokens": 7,
            "cached_tokens": 0,
            "answer_tokens": 0,
            "engine_restarts": 0,
            **fields,
        }
    )


def told(collected: Collected, before: Collected | None) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(collected.frame_since(before))["data"]
    return data


def test_mo1_a_viewer_is_told_everything_once_and_then_what_changed() -> None:
    def collected(version: int, **states: str) -> Collected:
        log = RequestLog()
        for name, client_id in states.items():
            log.begin(name, partial(times, client_id=client_id))
        found = {name: one for name, (_, one) in zip(states, requests(log, CLOCKS, {}).items(), strict=True)}
        return Collected("requests", version, found, {})

    first, second = collected(1, a="ann", b="bob", d="dan"), collected(2, b="eve", c="cid", d="dan")
    whole = told(first, None)
    assert (whole["is_whole"], [one["client_id"] for one in whole["changed"]]) == (True, ["ann", "bob", "dan"])
    delta = told(second, first)
    assert (delta["is_whole"], delta["removed"]) == (False, ["a"])
    # `b` differs, `c` is new, and `d` is as it was.
    assert [one["client_id"] for one in delta["changed"]] == ["eve", "cid"]
    assert second.frame_since(first) is second.frame_since(first), "encoded once for all who stand at the same place"
    assert read_message_data("requests_changed", delta).changed[0] == second.items["b"]


def test_mo2_however_slowly_a_viewer_reads_one_frame_waits_and_is_the_newest() -> None:
    queue, newest = SendQueue(), [0]
    for number in range(1000):
        newest[0] = number
        queue.put_made("tree", lambda: b"%d" % newest[0])
    assert (len(queue), queue.bytes) == (1, 0)
    queue.put({"type": "other"})
    assert queue.take() == b"999"
    assert queue.take() == b'{"type":"other"}'
    queue.put_made("tree", lambda: None)
    assert queue.take() is None
    assert len(queue) == 0


def test_mo3_phases_of_a_request_add_up_and_its_end_is_kept() -> None:
    log, now = RequestLog(), [times()]
    log.begin("s", lambda: now[0])

    def seen() -> RequestData:
        return requests(log, CLOCKS, {})["1"]

    assert (seen().state, seen().queued_ms, seen().prefill_ms) == ("queued", 10_000.0, None)
    now[0] = times(admitted_at=92.0)
    assert (seen().state, seen().queued_ms, seen().prefill_ms, seen().decode_ms) == ("prefill", 2000.0, 8000.0, None)
    now[0] = times(admitted_at=92.0, first_token_at=95.0, answer_tokens=3, engine_restarts=1)
    assert (seen().state, seen().decode_ms) == ("decode", 5000.0)
    log.end("s", "stop", 99.0)
    ended = seen()
    assert (ended.queued_ms, ended.prefill_ms, ended.decode_ms) == (2000.0, 3000.0, 4000.0)
    assert (ended.state, ended.end_reason, ended.answer_tokens, ended.engine_restarts) == ("ended", "stop", 3, 1)
    assert log.first_token_quantile(0.5) == 5.0
    for place, seconds in enumerate((1.0, 2.0, 3.0)):
        log.begin(f"q{place}", partial(times, admitted_at=90.0, first_token_at=90.0 + seconds))
        log.end(f"q{place}", "stop", 99.0)
    # By nearest rank: of four values the second and the fourth.
    assert (log.first_token_quantile(0.5), log.first_token_quantile(0.99)) == (2.0, 5.0)


def test_mo4_two_hundred_ended_requests_are_kept_and_a_lost_one_that_goes_on_is_one() -> None:
    log = RequestLog()
    for number in range(KEPT + 50):
        log.begin(f"s{number}", times)
        log.end(f"s{number}", "stop", 99.0)
    found = requests(log, CLOCKS, {})
    assert (len(found), next(iter(found))) == (KEPT, "51")
    log.begin("lost", times)
    log.begin("gone", times)
    log.lose(99.0)
    lost = requests(log, CLOCKS, {})
    assert [lost[one].end_reason for one in ("251", "252")] == ["lost", "lost"]
    log.begin("lost", times)
    again = requests(log, CLOCKS, lost)
    assert (again["251"].state, again["252"].end_reason, len(again)) == ("queued", "lost", KEPT)


def test_unknown_topics_and_boundless_traces_are_refused() -> None:
    with pytest.raises(FieldFault, match=r"topics\[0\] must be one of tree"):
        Watch(topics=["everything"])
