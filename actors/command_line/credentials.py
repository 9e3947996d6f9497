"""Credentials of commands: the token they send, and the certificates they trust."""

from __future__ import annotations

import os
import ssl
import time

from attrs import field, frozen

from actors.access.local_token import read_local_token
from actors.command_line.inspection_socket import quiet_answer
from actors.command_line.options import fail
from actors.inspection.server_file import ServerFile
from actors.settings import Settings
from actors.tls import CertificateFault, client_context, pinned_context

__all__ = ["TOKEN_VARIABLE", "Credentials", "credentials_elsewhere", "credentials_here"]

TOKEN_VARIABLE = "LEANVIBE_TOKEN"  # noqa: S105  a name; an option would show the token to everybody who lists processes
LOCAL_SECONDS = 3.0
PAUSE_SECONDS = 0.05


@frozen(kw_only=True)
class Credentials:
    """Token and TLS context for a server."""

    token: str | None = field(repr=False)
    """None where the server has no tokens."""
    tls: ssl.SSLContext | None
    """None where its addresses are plain."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every REST request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def credentials_here(settings: Settings, server: ServerFile) -> Credentials:
    """Return the credentials for the server of the data folder: its token file, and the certificate of `server.json`."""
    token = read_local_token(settings.data_dir)
    if token is None:
        # Deleted, or readable by others: the server makes it anew, if it has tokens at all.
        deadline = time.monotonic() + LOCAL_SECONDS
        while True:
            answer = quiet_answer(server, {"command": "token_local"}, seconds=LOCAL_SECONDS)
            if answer is None or "error" not in answer or time.monotonic() > deadline:
                break
            # A server that has just started answers here before its other rooms are there.
            time.sleep(PAUSE_SECONDS)
        token = read_local_token(settings.data_dir)
    return Credentials(token=token, tls=None if server.certificate is None else pinned_context(server.certificate))


def credentials_elsewhere(settings: Settings, url: str) -> Credentials:
    """Return the credentials for a server at a URL: the environment's token, and the authorities of `ca` or of the system."""
    try:
        secured = url.partition("://")[0].lower() in ("wss", "https")
        tls = client_context(settings.ca) if secured else None
    except CertificateFault as error:
        fail(str(error), status=2)
    return Credentials(token=os.environ.get(TOKEN_VARIABLE) or None, tls=tls)
