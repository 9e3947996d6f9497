"""A server at its memory limit: it reports so, stays responsive, and ends when told to."""

from __future__ import annotations

import http.client
import resource
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors import process_memory
from tests.system.serving_process import REPOSITORY, start_server

MEBIBYTE = 1024 * 1024
PATHS = (
    ("/ai/process", '"code": "unavailable"'),
    ("/v1/chat/completions", '"code":"unavailable"'),
    ("/v1/messages", '"type":"error"'),
    ("/api/chat", '"error":"the server has no memory for this now"'),
)
"""And the error by which each API says so."""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs macOS's own way to measure")
def test_op_a_process_near_the_limit_of_its_address_space_says_so() -> None:
    program = """
        import resource, sys
        from pathlib import Path
        from actors.process_memory import memory_problem
        assert memory_problem() is None
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 1024 * 2**20, resource.RLIM_INFINITY))
        assert memory_problem() is None
        resource.setrlimit(resource.RLIMIT_AS, (size + 8 * 2**20, resource.RLIM_INFINITY))
        print(memory_problem())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "MiB are left under the limit of this process's address space" in done.stdout


def test_op_a_control_group_that_is_nearly_full_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{100 * MEBIBYTE}\n")
    (tmp_path / "memory.current").write_text(f"{95 * MEBIBYTE}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {10 * MEBIBYTE}\nactive_file 0\n")
    assert process_memory._group_bytes_left(tmp_path) == 15 * MEBIBYTE
    (tmp_path / "memory.max").write_text("max\n")
    assert process_memory._group_bytes_left(tmp_path) is None


def test_op_a_shortage_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_memory, "_shortages", [])
    assert process_memory.memory_problem() is None
    process_memory.note_shortage()
    assert "memory was short" in str(process_memory.memory_problem())
    process_memory._shortages[0] -= process_memory.REMEMBERED_SECONDS
    assert process_memory.memory_problem() is None


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs macOS's own way to limit another process")
def test_op24_a_server_at_its_memory_ceiling_refuses_bodies_stays_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with start_server(tmp_path, LEANVIBE_DRAIN_SECONDS="1") as server:
        server.until_ready()
        pid = server.process.pid
        port = int(server.about["rest_url"].rpartition(":")[2])
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + 20 * MEBIBYTE
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

        def get(path: str, body: bytes | None = None) -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request("GET" if body is None else "POST", path, body)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            finally:
                connection.close()

        status, said = get("/health/ready")
        assert status == 503
        assert "not enough memory for new work" in said
        bodies = (
            b'{"type":"message","content":"' + b"a" * 1_000_000 + b'","max_tokens":2}',
            b'{"type":"message","content":"x","x":[' + b"{}," * 340_000 + b"{}]}",
        )

        def post(number: int) -> tuple[int, str]:
            path, word = PATHS[number % len(PATHS)]
            status, said = get(path, bodies[number % 2])
            return status, word if word in said else said

        with ThreadPoolExecutor(30) as clients:
            answers = set(clients.map(post, range(60)))
        # In the format of each API.
        assert answers == {(503, word) for _, word in PATHS}
        assert get("/health/live")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        # The drain and ten seconds, on a busy machine a little more.
        assert server.process.wait(25) in (0, -signal.SIGTERM)
