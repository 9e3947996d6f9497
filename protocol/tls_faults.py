"""TLS problems between client and server: OpenSSL's reasons as sentences, and as cases to act on."""

from __future__ import annotations

import enum
import socket
import ssl

__all__ = ["TlsFault", "TlsProblem", "speaks_tls", "tls_problem", "unchecked_context"]

PROBE_SECONDS = 3.0


class TlsProblem(enum.Enum):
    """Kinds of TLS problems; each value is a sentence about the server."""

    UNKNOWN_AUTHORITY = "it is not trusted: its certificate is of an authority that is not known here"
    OTHER_NAME = "it is not trusted: its certificate is for another name"
    EXPIRED = "it is not trusted: its certificate has expired"
    NOT_YET = "it is not trusted: its certificate is not valid yet, or the clock here is wrong"
    OTHER = "it is not trusted"
    PLAIN = "what answers there does not speak TLS"
    SECURED = "what answers there speaks TLS alone"


class TlsFault(OSError):
    """No connection, for one of these reasons."""

    def __init__(self, url: str, problem: TlsProblem, detail: str = "") -> None:
        super().__init__(f"{url}: {problem.value}{f' ({detail})' if detail else ''}")
        self.problem = problem


_OF_X509 = {
    9: TlsProblem.NOT_YET,
    10: TlsProblem.EXPIRED,
    18: TlsProblem.UNKNOWN_AUTHORITY,
    19: TlsProblem.UNKNOWN_AUTHORITY,
    20: TlsProblem.UNKNOWN_AUTHORITY,
    21: TlsProblem.UNKNOWN_AUTHORITY,
    62: TlsProblem.OTHER_NAME,
    64: TlsProblem.OTHER_NAME,
}
"""OpenSSL's `X509_V_ERR_…`, as in x509_vfy.h."""


def tls_problem(error: BaseException) -> tuple[TlsProblem, str]:
    """Classify a failed handshake. Returns the problem, and OpenSSL's reason if that says more."""
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = _OF_X509.get(error.verify_code, TlsProblem.OTHER)
        # It names the host that was asked for.
        detail = error.verify_message if problem in (TlsProblem.OTHER, TlsProblem.OTHER_NAME) else ""
        return problem, detail.rstrip(".")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        # An alert is TLS, whatever it complains of.
        return TlsProblem.OTHER, (error.reason or "").replace("_", " ").lower()
    return TlsProblem.PLAIN, ""


def speaks_tls(host: str, port: int) -> bool:
    """True if a server that did not understand a plain request speaks TLS; sends only a greeting. Blocking."""
    try:
        with (
            socket.create_connection((host, port), timeout=PROBE_SECONDS) as plain,
            unchecked_context().wrap_socket(plain, server_hostname=host),
        ):
            return True
    except (OSError, ValueError):
        return False


def unchecked_context() -> ssl.SSLContext:
    """For a greeting after which the connection is closed: it believes anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
