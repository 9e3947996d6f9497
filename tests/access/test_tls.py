"""TLS on both listeners: configured certificates, the clients' trust in them, and the deadlines of the handshake."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock

from actors.access.messages import CreateToken
from actors.command_line.credentials import Credentials, credentials_elsewhere, credentials_here
from actors.settings import Settings
from actors.tls import CertificateFault, client_context, first_certificate, pinned_context, server_context
from protocol.client import connect
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


@attrs.frozen
class Papers:
    """A certificate of `box.lan`, issued by a test authority."""

    authority: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_papers(tmp_path_factory.mktemp("papers"))


def make_papers(folder: Path, *names: str) -> Papers:
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("box.lan", "127.0.0.1")))
    found = Papers(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(str(found.authority))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(found.certificate), append=True)
    issued.private_key_pem.write_to_path(str(found.key))
    return found


@asynccontextmanager
async def secured_server(folder: Path, papers: Papers) -> AsyncIterator[RunningServer]:
    """Run a server that speaks only TLS."""
    async with running_server(folder, wait=False, tls_certificate=papers.certificate, tls_key=papers.key) as server:
        yield server


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.inference.worker_config import WorkerConfig

    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])


def port_of(url: str) -> int:
    return int(url.split("://", 1)[1].split("/", maxsplit=1)[0].rsplit(":", 1)[1])


async def test_both_listeners_speak_tls_to_clients_that_trust_the_authority(tmp_path: Path, papers: Papers) -> None:
    async with secured_server(tmp_path, papers) as server:
        assert server.about.rest_url.startswith("https://")
        assert server.about.websocket_url.startswith("wss://")
        believing = client_context(papers.authority)
        async with httpx.AsyncClient(verify=believing, trust_env=False) as http:
            for _ in range(2):
                assert (await http.get(f"{server.about.rest_url}/health/live")).json() == {"status": "live"}
        async with server.peer(ssl=believing) as peer:
            assert (await peer.ask("ping", "1", "x" * 60_000))["data"] == "x" * 60_000
            await peer.websocket.aclose()
            assert peer.websocket.close_code == 1000
        async with connect(server.about.websocket_url, client_id="me", ssl_context=believing) as client:
            assert await client.ping("there") == "there"


async def test_nobody_else_believes_it(tmp_path: Path, papers: Papers) -> None:
    async with secured_server(tmp_path, papers) as server:
        for context in (client_context(None), client_context(make_papers(tmp_path).authority)):
            with pytest.raises(OSError, match="not trusted"):
                async with connect(server.about.websocket_url, client_id="me", ssl_context=context):
                    pass
            async with httpx.AsyncClient(verify=context, trust_env=False) as http:
                with pytest.raises(httpx.ConnectError):
                    await http.get(f"{server.about.rest_url}/health/live")


async def test_a_certificate_of_another_name_is_not_believed_elsewhere_but_by_its_own_machine(tmp_path: Path) -> None:
    papers = make_papers(tmp_path, "box.lan")
    async with secured_server(tmp_path, papers) as server:
        with pytest.raises(OSError, match=r"IP address|Hostname|hostname"):
            async with connect(
                server.about.websocket_url, client_id="me", ssl_context=client_context(papers.authority)
            ):
                pass
        pinned = pinned_context(first_certificate(papers.certificate))
        async with connect(server.about.websocket_url, client_id="me", ssl_context=pinned) as client:
            assert await client.ping(1) == 1
        (tmp_path / "second").mkdir()
        other = pinned_context(first_certificate(make_papers(tmp_path / "second", "box.lan").certificate))
        with pytest.raises(OSError, match="not trusted"):
            async with connect(server.about.websocket_url, client_id="me", ssl_context=other):
                pass


@pytest.mark.parametrize("listener", ["rest_url", "websocket_url"])
async def test_versions_before_tls_1_2_are_refused(tmp_path: Path, papers: Papers, listener: str) -> None:
    async with secured_server(tmp_path, papers) as server:
        port = port_of(getattr(server.about, listener))
        for version, is_welcome in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1") if not is_welcome else contextlib.nullcontext():
                context.minimum_version = context.maximum_version = version
            stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
            with trio.fail_after(60):
                if is_welcome:
                    await stream.do_handshake()
                else:
                    with pytest.raises(trio.BrokenResourceError):
                        await stream.do_handshake()
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("listener", ["rest_url", "websocket_url"])
async def test_plain_text_at_a_tls_listener_is_refused_and_forgotten(
    tmp_path: Path, papers: Papers, listener: str
) -> None:
    async with secured_server(tmp_path, papers) as server:
        async with await trio.open_tcp_stream("127.0.0.1", port_of(getattr(server.about, listener))) as stream:
            await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with trio.fail_after(60):
                with contextlib.suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
        await eventually(lambda: not server.connections())


@pytest.mark.parametrize("listener", ["rest_url", "websocket_url"])
async def test_a_handshake_of_tls_has_ten_seconds(
    mock_clock: MockClock, tmp_path: Path, papers: Papers, listener: str
) -> None:
    ended = trio.Event()

    async def read(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        ended.set()

    async with (
        secured_server(tmp_path, papers) as server,
        await trio.open_tcp_stream("127.0.0.1", port_of(getattr(server.about, listener))) as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read, stream)
        # A record that announces more than ever comes.
        await stream.send_all(b"\x16\x03\x01\x02\x00\x01")
        await trio.testing.wait_all_tasks_blocked(0.02)
        mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not ended.is_set()
        mock_clock.jump(2)
        await eventually(ended.is_set)


async def test_a_revoked_token_and_a_stopped_server_end_secured_connections_in_order(
    tmp_path: Path, papers: Papers
) -> None:
    believing = client_context(papers.authority)
    async with secured_server(tmp_path, papers) as server, server.peer(ssl=believing) as peer:
        await server.system.reference("access").ask(CreateToken(client_ids=("me",)), timeout=60)
        assert await peer.close_code() == 4401
    async with secured_server(tmp_path, papers) as server:
        here: Credentials = await trio.to_thread.run_sync(credentials_here, server.settings, server.about)
        async with server.peer(hello=False, ssl=believing) as peer:
            await peer.hello("me", token=here.token)
            server.system.request_stop("test")
            assert await peer.close_code() == 1012
    assert server.system.stuck == []


# --- settings -----------------------------------------------------------------------------------------


def test_files_that_are_no_certificates_are_named(tmp_path: Path, papers: Papers) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate", encoding="utf-8")
    with pytest.raises(CertificateFault, match="does not exist"):
        server_context(tmp_path / "missing.pem", papers.key)
    for certificate, key in ((garbage, papers.key), (papers.certificate, garbage), (papers.certificate, None)):
        with pytest.raises(CertificateFault, match=str(certificate)):
            server_context(certificate, key)
    with pytest.raises(CertificateFault, match=r"garbage\.pem"):
        client_context(garbage)
    with pytest.raises(CertificateFault, match=r"garbage\.pem"):
        first_certificate(garbage)
    server_context(papers.certificate, papers.key)


def test_commands_for_elsewhere_take_their_token_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    monkeypatch.delenv("LEANVIBE_TOKEN", raising=False)
    assert credentials_elsewhere(settings, "ws://box.lan/ws").token is None
    monkeypatch.setenv("LEANVIBE_TOKEN", "lv_x")
    found = credentials_elsewhere(settings, "wss://box.lan/ws")
    assert found.token == "lv_x"
    assert found.headers == {"Authorization": "Bearer lv_x"}
    assert "lv_x" not in repr(found)
    assert found.tls is not None
    assert found.tls.check_hostname is True
