"""Tokens with the real program: the commands, the command line's own token, and a log without secrets."""

from __future__ import annotations

import json
import re
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.server_fixture import count_to
from tests.system.serving_process import ServingProcess, leanvibe, start_server, wait_for

pytestmark = pytest.mark.integration


def created(done: Any) -> dict[str, Any]:
    """Parse the output of `token create --json`."""
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def status_of(server: ServingProcess, path: str, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{server.about['rest_url']}{path}", headers=headers)
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_tokens_are_made_listed_and_revoked_without_a_server_and_with_one(tmp_path: Path) -> None:
    first = created(leanvibe(tmp_path, "token", "create", "--client", "me", "--name", "laptop", "--json"))
    assert not (tmp_path / "cli-token").exists(), "nobody can enter yet"
    with start_server(tmp_path) as server:
        wait_for((tmp_path / "cli-token").exists)
        assert stat.S_IMODE((tmp_path / "cli-token").stat().st_mode) == 0o600
        assert status_of(server, "/health", first["token"]) == 200
        assert status_of(server, "/health") == 401
        done = server.run("token", "create", "--client", "you", "--role", "operator", "--expires", "90d")
        assert done.returncode == 0, done.stderr
        second = done.stdout.strip()
        assert re.fullmatch(r"lv_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", second)
        assert status_of(server, "/metrics", second) == 200
        listed = server.run("token", "list").stdout
        for word in (first["token_id"], "laptop", "me", "you", "operator", "local, in force"):
            assert word in listed
        as_json = server.run("token", "list", "--json").stdout
        for secret in (first["token"], second, (tmp_path / "cli-token").read_text(encoding="ascii").strip()):
            assert secret.split("_", 2)[2] not in listed + as_json
        assert "digest" not in as_json
        assert server.run("token", "revoke", first["token_id"]).stdout == f"revoked {first['token_id']}\n"
        assert status_of(server, "/health", first["token"]) == 401
        assert server.run("token", "revoke", "0" * 12).returncode == 1
        # This machine's command line needs no token from the user, even after its own was deleted.
        (tmp_path / "cli-token").unlink()
        done = server.run("ask", "count to 3")
        assert (done.returncode, done.stdout) == (0, count_to(3) + "\n"), done.stderr
        server.until_ready()
    done = leanvibe(tmp_path, "token", "forget", "--yes")
    assert (done.returncode, done.stdout) == (0, "forgot 3 tokens\n"), done.stderr
    assert "no tokens" in leanvibe(tmp_path, "token", "list").stdout
    with start_server(tmp_path) as server:
        assert status_of(server, "/health") == 200
        assert not (tmp_path / "cli-token").exists()
        assert server.run("ask", "count to 3").stdout == count_to(3) + "\n"


def test_p13_other_machines_are_served_with_tokens_alone(tmp_path: Path) -> None:
    done = leanvibe(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", "--ws-port", "0")
    assert done.returncode == 2
    assert "token create" in done.stderr
    token = created(leanvibe(tmp_path, "token", "create", "--client", "me", "--json"))["token"]
    with start_server(tmp_path, "--host", "0.0.0.0") as server:
        assert "WARNING" in server.log.read_text(encoding="utf-8"), "without TLS every word can be read on the way"
        assert server.about["rest_url"].startswith("http://127.0.0.1:")
        assert status_of(server, "/health", token) == 200
        assert status_of(server, "/health") == 401
        assert server.run("ask", "count to 3").stdout == count_to(3) + "\n"
        done = server.run("token", "forget", "--yes")
        assert done.returncode == 1
        assert "other machines" in done.stderr


def test_the_command_line_believes_the_certificate_of_its_own_server(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key, ca = (tmp_path / name for name in ("certificate.pem", "key.pem", "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    papers = {"LEANVIBE_TLS_CERTIFICATE": str(certificate), "LEANVIBE_TLS_KEY": str(key)}
    with start_server(tmp_path / "data", **papers) as server:
        assert server.about["websocket_url"].startswith("wss://127.0.0.1:")
        server.until_ready()
        assert server.run("ask", "count to 3").stdout == count_to(3) + "\n"
        url = server.about["websocket_url"].replace("127.0.0.1", "localhost")
        elsewhere = tmp_path / "elsewhere"
        done = leanvibe(elsewhere, "ask", "count to 3", "--url", url)
        assert (done.returncode, done.stdout) == (1, "")
        assert "not trusted" in done.stderr
        done = leanvibe(elsewhere, "ask", "count to 3", "--url", url, "--ca", str(ca))
        assert (done.returncode, done.stdout) == (0, count_to(3) + "\n"), done.stderr
        token = created(server.run("token", "create", "--client", "system-test", "--json"))["token"]
        assert leanvibe(elsewhere, "ask", "x", "--url", url, "--ca", str(ca)).returncode == 1
        done = leanvibe(elsewhere, "ask", "count to 3", "--url", url, "--ca", str(ca), LEANVIBE_TOKEN=token)
        assert (done.returncode, done.stdout) == (0, count_to(3) + "\n"), done.stderr


@pytest.mark.parametrize(
    ("papers", "word"),
    [
        ({"LEANVIBE_TLS_CERTIFICATE": "missing.pem"}, "missing.pem does not exist"),
        ({"LEANVIBE_TLS_KEY": "missing.pem"}, "tls_certificate is not"),
    ],
)
def test_wrong_papers_are_a_plain_message(tmp_path: Path, papers: dict[str, str], word: str) -> None:
    done = leanvibe(tmp_path, "serve", "--port", "0", "--ws-port", "0", **papers)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_no_token_is_in_any_log_line(tmp_path: Path) -> None:
    """A whole run at debug level, with every way to present a token, valid or not."""
    made = created(leanvibe(tmp_path, "token", "create", "--client", "system-test", "--role", "operator", "--json"))
    token = made["token"]
    wrong = token[:-5] + "AAAAA"
    with start_server(tmp_path, "--log-level", "debug") as server:
        wait_for((tmp_path / "cli-token").exists)
        local = (tmp_path / "cli-token").read_text(encoding="ascii").strip()
        for shown in (token, wrong, local):
            for path in ("/health", f"/health?token={shown}", f"/{shown}", f"/health?x={shown}", f"/tasks/{shown}"):
                status_of(server, path, shown)
                status_of(server, path)
            url = server.about["websocket_url"]
            leanvibe(tmp_path / "else", "ask", "count to 3", "--url", url, LEANVIBE_TOKEN=shown)
            leanvibe(tmp_path / "else", "ask", "x", "--url", f"{url}?token={shown}", LEANVIBE_TOKEN=shown)
        assert server.run("ask", "count to 3").returncode == 0
        later = created(server.run("token", "create", "--client", "x", "--json"))["token"]
        server.run("token", "list")
        server.run("inspect", "tree", "--stacks")
        for path in ("access", "storage/writer"):
            assert "lv_" not in server.run("inspect", "state", path).stdout
        server.run("token", "revoke", made["token_id"])
        server.run("inspect", "dead-letters", "--payload")
        log = server.log.read_text(encoding="utf-8")
    assert len(log.splitlines()) > 20
    assert "entry refused" in log
    for secret in (token, wrong, local, later):
        assert secret.split("_", 2)[2] not in log
