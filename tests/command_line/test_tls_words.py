"""What a person is told where TLS fails: what is wrong, and which option or which beginning of the address mends it."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.system.serving_process import ServingProcess, start_server

pytestmark = pytest.mark.integration

COMMANDS = [("ask", "count to 3"), ("task", "list"), ("task", "add", "x"), ("notify", "list"), ("status",), ("chat",)]
"""Over the WebSocket and over REST."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[ServingProcess]:
    folder = tmp_path_factory.mktemp("secured")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    papers = {"LEANVIBE_TLS_CERTIFICATE": f"{folder}/certificate.pem", "LEANVIBE_TLS_KEY": f"{folder}/key.pem"}
    with start_server(folder / "data", **papers) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("plain")) as server:
        yield server


def refused(server: ServingProcess, url: str, *words: str, **settings: str) -> str:
    done = server.run("--url", url, *words, LEANVIBE_DATA_DIR=str(server.data_folder / "none"), **settings)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    for word in ("SSL", "_ssl", "Errno", "CERTIFICATE_VERIFY"):
        assert word not in done.stderr
    return done.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_te62_an_unknown_authority_a_wrong_name_and_a_wrong_scheme_name_what_mends_them(
    secured: ServingProcess, plain: ServingProcess, words: tuple[str, ...]
) -> None:
    ca = str(secured.data_folder.parent / "ca.pem")
    url = secured.about["rest_url"]
    said = refused(secured, url, *words)
    assert "of an authority that is not known here; give its certificate" in said
    assert "--ca FILE or LEANVIBE_CA" in said
    said = refused(secured, url.replace("127.0.0.1", "localhost"), *words, LEANVIBE_CA=ca)
    assert "its certificate is for another name" in said
    assert "localhost" in said
    said = refused(secured, url.replace("https://", "http://"), *words)
    assert "speaks TLS alone; begin the address with https:// or wss://" in said
    said = refused(secured, plain.about["rest_url"].replace("http://", "https://"), *words)
    assert "does not speak TLS; begin the address with http:// or ws://" in said
    # And what mends it does.
    if words != ("chat",):
        done = secured.run("--url", url, "--ca", ca, *words, LEANVIBE_DATA_DIR=str(secured.data_folder / "none"))
        assert done.returncode == 0, done.stderr


def test_te62_an_expired_certificate_says_so(plain: ServingProcess, authority: trustme.CA, tmp_path: Path) -> None:
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    issued = authority.issue_cert("127.0.0.1", not_after=then)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with listener(issued) as port:
        for words in (("ask", "x"), ("status",)):
            said = refused(plain, f"https://127.0.0.1:{port}", *words, LEANVIBE_CA=str(tmp_path / "ca.pem"))
            assert "its certificate has expired; renew it" in said


@contextmanager
def listener(issued: trustme.LeafCert) -> Iterator[int]:
    """Shakes hands, and no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                with accepted:
                    try:
                        context.wrap_socket(accepted, server_side=True).close()
                    except OSError:
                        continue

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    serving.join(5)
