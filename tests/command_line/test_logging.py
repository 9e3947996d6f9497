"""Logs on standard error: JSON lines for programs, plain words for people, and nobody's secrets."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from actors.access.tokens import new_token
from actors.logging import configure_logging, log_event
from actors.tracing.trace_context import new_trace, within
from runtime import ChildEnded, ChildRestarting, ChildStarted, DownReason, StuckReport, SystemStopping


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    for name in ("hypercorn", "quart", "trio-websocket", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def configured(monkeypatch: pytest.MonkeyPatch, level: str, *, terminal: bool = False) -> io.StringIO:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging(level)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_logs_are_json_lines_where_no_person_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, "info")
    structlog.get_logger("x").info("hello", number=5)
    (line,) = lines(stream)
    assert (line["event"], line["number"], line["level"]) == ("hello", 5, "info")
    assert str(line["timestamp"]).endswith("Z")


def test_the_standard_librarys_loggers_join(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, "info")
    logging.getLogger("runtime").warning("%s is %s", "access", "stuck")
    logging.getLogger("runtime").debug("never")
    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("access is stuck", "warning")


def test_every_line_names_its_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regression: structlog's printing logger forgets the name it was asked for by."""
    stream = configured(monkeypatch, "info")
    structlog.get_logger("storage").info("ours")
    logging.getLogger("runtime.loop").info("the runtime's")
    logging.getLogger("a.library").warning("a library's")
    log_event(SystemStopping("SIGINT"))
    assert [one["logger"] for one in lines(stream)] == ["storage", "runtime.loop", "a.library", "supervision"]
    terminal = configured(monkeypatch, "info", terminal=True)
    structlog.get_logger("storage").info("ours")
    assert "storage" in terminal.getvalue()


def test_a_message_below_the_level_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, "error")
    structlog.get_logger("x").warning("quiet")
    logging.getLogger("y").warning("quiet")
    log_event(ChildRestarting(**RESTARTING))
    assert stream.getvalue() == ""


def raise_with_secret() -> None:
    prompt = "-".join(["my", "secret", "prompt"])
    raise ZeroDivisionError(f"{len(prompt)} characters")


@pytest.mark.parametrize("terminal", [True, False])
def test_an_exception_is_logged_with_its_stack_but_without_its_variables(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    stream = configured(monkeypatch, "info", terminal=terminal)
    try:
        raise_with_secret()
    except ZeroDivisionError:
        logging.getLogger("runtime").exception("failed")
    assert "ZeroDivisionError" in stream.getvalue()
    assert "raise_with_secret" in stream.getvalue()
    assert "my-secret-prompt" not in stream.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stack_is_plain_text(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """A regression: a thousand failures held up the loop for 18 seconds, while rich drew frames round their stacks."""
    stream = configured(monkeypatch, "info", terminal=terminal)
    try:
        raise_with_secret()
    except ZeroDivisionError:
        logging.getLogger("runtime").exception("failed")
    assert "Traceback (most recent call last)" in stream.getvalue()
    assert stream.getvalue().isascii()


RESTARTING = {
    "path": "access",
    "incarnation": 1,
    "reason": DownReason.CRASHED,
    "error": ValueError("outer"),
    "uptime_seconds": 1.23456,
    "attempt": 1,
    "delay_seconds": 0.0,
}


def test_what_happens_in_the_tree_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, "debug")
    error = ValueError("outer")
    error.__cause__ = OSError("inner")
    log_event(ChildRestarting(**{**RESTARTING, "error": error}))
    log_event(ChildRestarting(**{**RESTARTING, "delay_seconds": None}))
    log_event(ChildStarted("access", 2, 0.1))
    log_event(ChildEnded("access", 2, DownReason.STOPPED, None))
    log_event(StuckReport("rest", 1, ("a", "b")))
    log_event(SystemStopping("SIGINT"))
    events = lines(stream)
    assert [one["event"] for one in events] == ["restart", "giving up", "started", "ended", "stuck", "stopping"]
    assert events[0]["cause"] == ["ValueError: outer", "OSError: inner"]
    assert events[0]["uptime_seconds"] == 1.235
    assert events[4]["stack"] == ["a", "b"]


def test_a_token_that_gets_into_a_line_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    token_id, token = new_token()
    configure_logging("debug")
    structlog.get_logger("x").info("asked", address=f"/health?token={token}")
    logging.getLogger("a.library").warning("GET /%s", token)
    written = capsys.readouterr().err
    assert written.count(token_id) == 2
    assert token.split("_", 2)[2] not in written


def test_tx27_a_log_on_a_terminal_shows_what_clients_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(monkeypatch, "info", terminal=True)
    evil = "evil\x1b]0;PWNED\x07\x9b2J\r\n\u202efake"
    log = structlog.get_logger("x")
    log.info(evil, title=evil, names=[evil], nested={evil: evil})
    logging.getLogger("library").warning("%s", evil)
    try:
        raise ValueError(evil)
    except ValueError:
        log.exception("it failed", reason=evil)
    said = re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue())
    assert "evil␛]0;PWNED␇\\x9b2J␍␊\\u202efake" in said
    assert "ValueError: evil␛]0;PWNED␇" in said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)


def test_tr14_a_line_names_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = new_trace()
    stream = configured(monkeypatch, "info")
    with within(trace):
        structlog.get_logger("x").info("inside")
        logging.getLogger("runtime").warning("a library")
    structlog.get_logger("x").info("outside")
    inside, library, outside = lines(stream)
    for line in (inside, library):
        assert (line["trace_id"], line["span_id"]) == (trace.trace_id, trace.span_id)
    assert "trace_id" not in outside
    shown = configured(monkeypatch, "info", terminal=True)
    with within(trace):
        structlog.get_logger("x").info("inside")
    assert trace.trace_id in shown.getvalue()
    assert trace.span_id in shown.getvalue()
