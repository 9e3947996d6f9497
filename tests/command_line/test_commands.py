"""The command line as far as no server is needed."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from actors.command_line import options
from actors.command_line.main import leanvibe
from actors.inspection.server_file import ServerFile


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LEANVIBE_CACHE_DIR", str(tmp_path / "cache"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(leanvibe, list(arguments))


COMMANDS = [
    [],
    ["serve"],
    ["ask"],
    ["chat"],
    ["status"],
    ["model"],
    ["model", "embed"],
    ["model", "path"],
    ["inspect"],
    *(["inspect", one] for one in ("tree", "trace", "state", "suspend", "resume", "restart", "dead-letters")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(command: list[str], option: str) -> None:
    result = run(*command, option)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Usage:")
    assert len(result.output.splitlines()) >= 5


def test_help_names_all_commands() -> None:
    output = run("--help").output
    for name in ("serve", "ask", "chat", "status", "inspect", "model"):
        assert f"  {name} " in output


def test_serve_names_its_options() -> None:
    output = run("serve", "--help").output
    for option in ("--host", "--port", "--ws-port", "--data-dir", "--model", "--engine", "--config", "--log-level"):
        assert option in output


def test_an_unknown_command_is_named() -> None:
    result = run("explode")
    assert result.exit_code == 2
    assert "explode" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["inspect", "tree"],
        ["inspect", "state", "access"],
        ["inspect", "trace", "--actor", "access"],
        ["inspect", "suspend", "access"],
        ["inspect", "resume", "access"],
        ["inspect", "restart", "access"],
        ["inspect", "dead-letters"],
    ],
    ids=" ".join,
)
def test_where_no_server_runs_it_is_said_plainly(command: list[str], tmp_path: Path) -> None:
    result = run(*command)
    assert result.exit_code == 3
    assert "no server runs on" in result.output
    assert str(tmp_path / "data") in result.output.replace("\n", "")
    assert " serve --data-dir " in result.output


def test_a_wrong_setting_ends_the_command_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANVIBE_PORT", "many")
    result = run("status")
    assert result.exit_code == 2
    assert "port" in result.output.lower()
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::"])
def test_serve_listens_on_loopback_alone(host: str) -> None:
    result = run("serve", "--host", host, "--engine", "mock")
    assert result.exit_code == 2
    assert host in result.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--max-tokens", "0"], "--max-tokens"),
        (["--temperature", "9"], "--temperature"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_ask_names_the_option_that_is_out_of_bounds(arguments: list[str], word: str) -> None:
    result = run("ask", "x", "--engine", "mock", *arguments)
    assert result.exit_code == 2
    assert word in result.output


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("nonsense", 2, "it begins with http://, https://, ws:// or wss://"),
        ("http://127.0.0.1:1", 1, "no answer from the server"),
        ("http://127.0.0.1:1/ws", 1, "no answer from the server"),
        ("ws://127.0.0.1:1/ws", 1, "no answer from the server"),
    ],
)
def test_ask_says_when_nobody_answers_at_an_address(url: str, status: int, words: str) -> None:
    result = run("ask", "x", "--url", url)
    assert result.exit_code == status
    assert words in result.output
    assert "Traceback" not in result.output


def test_model_path_says_what_is_not_there_yet() -> None:
    result = run("model", "path")
    assert result.exit_code == 1
    assert "not there yet" in result.output


def test_the_client_name_is_what_the_protocol_can_spell(monkeypatch: pytest.MonkeyPatch) -> None:
    from protocol.commands import Hello

    for name in ("ann", "Ann Müller", "_x", "...", "", "a" * 100, "-", "DOMAIN\\ann"):
        monkeypatch.setattr(options.getpass, "getuser", lambda name=name: name)
        monkeypatch.delenv("LEANVIBE_CLIENT_ID", raising=False)
        Hello(client_id=options.client_name_default())
    monkeypatch.setenv("LEANVIBE_CLIENT_ID", "chosen")
    assert options.client_name_default() == "chosen"


# --- against a false server ---------------------------------------------------------------------------


@pytest.fixture
def about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerFile:
    found = ServerFile(
        pid=4711,
        started_at="",
        rest_url="http://127.0.0.1:1",
        websocket_url="ws://127.0.0.1:1/ws",
        inspection_socket=str(tmp_path / "i.sock"),
        engine="mock",
        model="mock",
    )
    monkeypatch.setattr(options, "find_server", lambda _: found)
    return found


@pytest.fixture
def inspection(about: ServerFile) -> Iterator[list[Any]]:
    """Answers one request with the lines that the test puts into the list; the request is put in front."""
    lines: list[Any] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(about.inspection_socket)
    listener.listen(1)
    listener.settimeout(5)

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            request = json.loads(connection.makefile("rb").readline())
            answers = list(lines)
            lines.insert(0, request)
            for line in answers:
                connection.sendall(json.dumps(line).encode() + b"\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with listener:
        yield lines
        thread.join(5)


def node(path: str, **changes: Any) -> dict[str, Any]:
    return {
        "path": path,
        "kind": "actor",
        "state": "idle",
        "incarnation": 1,
        "restarts": 0,
        "restarts_in_window": None,
        "intensity": None,
        "uptime_seconds": 5.0,
        "ready_seconds": 0.1,
        "stop_seconds": None,
        "recovery_seconds": None,
        "mailbox": {"used": 1, "capacity": 64, "peak": 3, "dropped": 2},
        "handled": 10,
        "messages_per_second": 4.0,
        "current_message": None,
        "current_age_seconds": None,
        "deadline_seconds": None,
        "handler_failures": {},
        "last_error": None,
        "stack": [],
        "children": [],
        **changes,
    }


TREE = {
    "tree": node(
        "root",
        kind="one_for_one",
        mailbox=None,
        restarts_in_window=1,
        intensity=3,
        children=[
            node(
                "access", state="busy", current_message="CheckOrigin", current_age_seconds=2.5, stack=["a/b.py:5 in f"]
            ),
            node("rest", state="backing_off", last_error="OSError: gone", uptime_seconds=None, mailbox=None),
        ],
    ),
    "is_ready": False,
    "reasons": ["rest is backing_off"],
    "dead_letters": 7,
    "slow_steps": 1,
}


def test_the_tree_is_drawn(inspection: list[Any]) -> None:
    inspection.append(TREE)
    output = run("inspect", "tree").output
    for word in ("access", "busy", "CheckOrigin 2.5s", "1/64 ^3", "OSError: gone", "0/1 of 3", "7 dead letters"):
        assert word in output, word
    assert "not ready: rest is backing_off" in output
    assert inspection[0] == {"command": "tree", "stacks": False}


def test_the_tree_with_stacks(inspection: list[Any]) -> None:
    inspection.append(TREE)
    assert "b.py:5 in f" in run("inspect", "tree", "--stacks").output
    assert inspection[0] == {"command": "tree", "stacks": True}


def test_the_tree_as_json(inspection: list[Any]) -> None:
    inspection.append(TREE)
    assert json.loads(run("inspect", "tree", "--json").output) == TREE


def test_a_trace_is_printed_line_by_line(inspection: list[Any]) -> None:
    record = {"direction": "ask", "other": "rest", "message_type": "CheckOrigin", "seconds": 0.5}
    inspection += [{"tracing": "access"}, record, {"ended": True, "skipped": 3}]
    result = run("inspect", "trace", "--actor", "access", "--rate", "5", "--max", "1")
    assert result.exit_code == 0
    assert "0.500  ⇄ CheckOrigin rest" in result.output
    assert "3 messages over the rate were skipped" in result.output
    assert inspection[0] == {"command": "trace", "path": "access", "rate": 5.0, "maximum": 1, "payload": False}


def test_an_actors_state_is_shown(inspection: list[Any]) -> None:
    inspection.append({"path": "access", "snapshot": {"running": 3}})
    output = run("inspect", "state", "access").output
    assert "running" in output
    assert "3" in output


def test_a_busy_actors_state_is_what_it_does(inspection: list[Any]) -> None:
    inspection.append({"path": "access", "busy_with": "CheckOrigin", "age_seconds": 1.5, "stack": ["x.py:1 in f"]})
    output = run("inspect", "state", "access").output
    assert "access is busy with CheckOrigin for 1.5 s" in output
    assert "x.py:1 in f" in output


def test_dead_letters_are_listed(inspection: list[Any]) -> None:
    last = {"path": "access", "message_type": "CheckOrigin", "reason": "stopped", "age_seconds": 2.0}
    inspection.append({"total": 1, "counts": {"stopped": 1}, "last": [last]})
    output = run("inspect", "dead-letters").output
    for word in ("access", "CheckOrigin", "1 stopped"):
        assert word in output


def test_a_servers_error_ends_the_command(inspection: list[Any]) -> None:
    inspection.append({"error": "nothing in the tree is called 'x'"})
    result = run("inspect", "restart", "x")
    assert result.exit_code == 1
    assert "nothing in the tree is called 'x'" in result.output


def test_a_socket_that_closes_without_an_answer_is_an_error(inspection: list[Any]) -> None:
    result = run("inspect", "suspend", "x")
    assert result.exit_code == 1
    assert "without an answer" in result.output


def test_a_server_that_does_not_answer_is_named(about: ServerFile) -> None:
    for command in (["inspect", "tree"], ["status"]):
        result = run(*command)
        assert result.exit_code == 1
        assert "4711" in result.output
