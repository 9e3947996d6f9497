"""TLS of both listeners and of the commands that talk to them: certificates from the settings, TLS 1.2 or newer."""

from __future__ import annotations

import ssl
from pathlib import Path

__all__ = ["CertificateFault", "client_context", "first_certificate", "pinned_context", "server_context"]

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class CertificateFault(Exception):
    """A certificate or key cannot be used. The text names the file."""


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return the context of both listeners. Raises `CertificateFault`.

    ``certificate`` is PEM, the server's own followed by its issuers'; ``key`` may be in the same file. HTTP/1.1 is the only
    protocol offered (ALPN, RFC 7301), since the listeners' deadlines are designed for it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise CertificateFault(f"{file} does not exist")
    try:
        # A pass phrase would be asked for on the terminal, and a server may have none.
        context.load_cert_chain(certificate, key, password=_no_pass_phrase)
    except (ssl.SSLError, OSError, ValueError) as error:
        names = f"{certificate}" if key is None else f"{certificate} and {key}"
        raise CertificateFault(f"{names} cannot be used as certificate and key: {error}") from error
    return context


def _no_pass_phrase() -> str:
    raise ValueError("the key is protected by a pass phrase; store it without one, readable only by the server's user")


def first_certificate(certificate: Path) -> str:
    """Return the server's own certificate, PEM, without its issuers'. Raises `CertificateFault`."""
    text = certificate.read_text(encoding="utf-8", errors="replace")
    begin = text.find(_BEGIN)
    end = text.find(_END, begin)
    if begin < 0 or end < 0:
        raise CertificateFault(f"{certificate} holds no certificate in PEM")
    return text[begin : end + len(_END)] + "\n"


def client_context(authorities: Path | None) -> ssl.SSLContext:
    """Return the context of commands for a remote server, which checks its name, and its issuer against ``authorities``.

    None means the system's authorities. Raises `CertificateFault`.
    """
    try:
        context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    except (ssl.SSLError, OSError) as error:
        raise CertificateFault(f"{authorities} holds no certificates to trust: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def pinned_context(certificate: str) -> ssl.SSLContext:
    """Return the context of commands for the server of their data folder, which trusts exactly this certificate.

    They take its address from `server.json`, which other users cannot write. It is a loopback address that the certificate
    need not name, so the certificate is compared as a whole and the name is not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # Ends the chain at the server's own certificate, whoever issued it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context
