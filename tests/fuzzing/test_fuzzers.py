"""The fuzzers themselves: one seed, the same inputs; a server that is at fault is found out, and the input is kept."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.rest.console_files import console_files
from protocol.commands import COMMANDS
from tests.connections.raw_peer import CLOSE, TEXT, frame
from tests.fuzzing.address_inputs import AddressInputs
from tests.fuzzing.checkpoint_inputs import CheckpointInputs
from tests.fuzzing.drivers import is_our_fault, judge_rest, judge_websocket, server_frames
from tests.fuzzing.exchange import Answered, http_statuses, play
from tests.fuzzing.harness import Report
from tests.fuzzing.inputs import END, Input
from tests.fuzzing.rest_inputs import BODIES, DELETES, READS, RestInputs
from tests.fuzzing.schema_inputs import SchemaInputs
from tests.fuzzing.websocket_inputs import LAST_ID, NOT_SENT, WebSocketInputs
from tests.rest.test_text_of_every_route import routes

MAKERS = {
    "rest": RestInputs,
    "websocket": WebSocketInputs,
    "schemas": SchemaInputs,
    "addresses": AddressInputs,
    "checkpoints": lambda seed: CheckpointInputs(seed, GOLDEN),
}
GOLDEN = Path(__file__).parents[1] / "inference/golden/tiny_phi3"
HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_an_input_is_determined_by_seed_and_number_alone(maker: Any) -> None:
    numbers = list(range(200))
    made = {number: maker(7).make(number) for number in numbers}
    backwards = maker(7)
    assert made == {number: backwards.make(number) for number in reversed(numbers)}
    assert [maker(8).make(number) for number in numbers] != list(made.values())
    assert len({repr(one) for one in made.values()}) > 190
    assert len(Counter(one.kind.split()[0] for one in made.values())) >= 2


def test_every_route_is_among_those_that_are_fuzzed() -> None:
    told = {path.split("?")[0] for path in (*BODIES, *READS, *DELETES)}
    task = "0b0f1c8e-6f0c-4c7e-9d6b-0c6f3f1f2a11"
    known = {path.replace("{client}", "me").replace("{task}", task).replace("{name}", "x") for path in told}
    pages = {"/docs/start.js", "/push/push.js", "/push/worker.js"}
    pages |= set(console_files())
    assert {path for _, path in routes() if not path.startswith("/push/") and path not in pages} <= known


def test_every_command_is_fuzzed() -> None:
    inputs = WebSocketInputs(1)
    told = " ".join(inputs.make(number).kind for number in range(1500))
    assert {name for name in COMMANDS if name not in told.split()} == NOT_SENT


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """A server that is not ours, at this port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


GET = Input(3, "rest GET /x", (b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n",), must_answer=True)


async def outcome_of(answer: Callable[[BaseHTTPRequestHandler], None], report: Report) -> str:
    with answering(answer) as port:
        answered = await play(GET, "127.0.0.1", port, is_whole=lambda _: False, replace={b"/x": b"/y"})
    return judge_rest(report, GET, answered)


async def test_an_answer_that_is_the_servers_fault_is_found_and_its_input_kept(tmp_path: Path) -> None:
    report = Report("rest", 5, tmp_path)
    asked = []

    def fail(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        handler.send_error(500)

    assert await outcome_of(fail, report) == "500"
    assert asked == ["/y"]
    [finding] = report.findings
    assert "input 3 of seed 5 (rest GET /x): answered 500" in finding
    content = json.loads(await trio.Path(finding.rpartition("saved as ")[2]).read_text())
    assert (content["seed"], content["number"]) == (5, 3)
    assert base64.b64decode(content["steps"][0]["base64"]) == GET.steps[0]


async def test_a_sound_request_without_an_answer_is_found(tmp_path: Path) -> None:
    report = Report("rest", 5, tmp_path)
    assert await outcome_of(lambda _: None, report) == "nothing"
    assert "without an answer" in report.findings[0]


async def test_refusals_are_no_findings(tmp_path: Path) -> None:
    report = Report("rest", 5, tmp_path)
    assert await outcome_of(lambda handler: handler.send_error(422), report) == "422"
    assert report.findings == []


def problem(status: int, code: str) -> bytes:
    body = json.dumps({"code": code}).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("status", "code", "is_found"),
    [(503, "unavailable", False), (503, "internal", True), (500, "answer_too_large", True), (505, "bad_message", False), (504, "x", True)],
)  # fmt: skip
def test_only_what_passes_or_what_nobody_speaks_may_be_5xx(
    tmp_path: Path, status: int, code: str, is_found: bool
) -> None:
    report = Report("rest", 5, tmp_path)
    good = problem(200, "-")
    judge_rest(report, GET, Answered(good + problem(status, code), is_ended=True))
    assert bool(report.findings) == is_found
    assert [one for one, _ in http_statuses(good + problem(status, code))] == [200, status]


COMMANDS_SENT = Input(4, "websocket ping", (b"", END), must_answer=True)


@pytest.mark.parametrize(
    ("came", "outcome", "word"),
    [
        (frame(TEXT, json.dumps({"type": "pong", "re": LAST_ID}).encode(), mask=None), "served", None),
        (frame(CLOSE, b"\x03\xf0", mask=None), "closed 1008", None),
        (frame(CLOSE, b"\x03\xf3", mask=None), "closed 1011", "closed with"),
        (frame(TEXT, b'{"type":"error","data":{"code":"internal"}}', mask=None), "refused, internal", "internal"),
        (b"", "101", "without a word"),
    ],
)
def test_a_connection_that_fails_by_our_fault_is_found(
    tmp_path: Path, came: bytes, outcome: str, word: str | None
) -> None:
    report = Report("websocket", 5, tmp_path)
    assert judge_websocket(report, COMMANDS_SENT, Answered(HANDSHAKE + came, is_ended=True)) == outcome
    assert word in report.findings[0] if word else not report.findings


def test_a_late_answer_is_found(tmp_path: Path) -> None:
    for judge in (judge_rest, judge_websocket):
        report = Report("any", 5, tmp_path)
        assert judge(report, COMMANDS_SENT, Answered(HANDSHAKE, is_late=True)) == "late"
        assert "deadline" in report.findings[0]


def test_long_frames_of_a_server_are_read_whole() -> None:
    frames = [frame(TEXT, b"a" * size, mask=None) for size in (0, 125, 126, 70_000)]
    assert [len(one) for _, one in server_frames(HANDSHAKE + b"".join(frames) + frames[-1][:-1])] == [
        0,
        125,
        126,
        70_000,
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"code": "unavailable"}, False),
        ({"error": {"code": "model_unavailable"}}, False),
        ({"type": "error", "error": {"type": "overloaded_error"}}, False),
        ({"error": "inference is restarting"}, False),
        ({"code": "internal"}, True),
        ({"error": {"code": "internal"}}, True),
        ({"type": "error", "error": {"type": "api_error"}}, True),
    ],
    ids=str,
)
def test_what_will_pass_is_known_in_the_shape_of_every_api(body: dict[str, Any], expected: bool) -> None:
    assert is_our_fault(503, json.dumps(body).encode()) is expected
