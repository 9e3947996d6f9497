"""The server's Web Push key (VAPID, RFC 8292): generated on first use and stored in the data folder with mode 0600."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["VapidKeys", "load_or_make_keys"]

FILE_NAME = "vapid.pem"
TOKEN_SECONDS = 12 * 3600
"""Push services refuse tokens valid for more than 24 hours."""
RENEW_SECONDS = 3600
ORIGINS_KEPT = 256


class VapidKeys:
    """A key pair and the tokens signed with it, one per push service."""

    def __init__(self, private: ec.EllipticCurvePrivateKey, contact: str) -> None:
        from cryptography.hazmat.primitives import serialization

        self._private = private
        self._contact = contact
        point = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.public_key = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
        """base64url, as a browser's `applicationServerKey` expects it."""
        self._tokens: dict[str, tuple[float, str]] = {}

    def authorization(self, endpoint: str, now_seconds: float | None = None) -> str:
        """Return the `Authorization` header for this endpoint."""
        import jwt

        now = time.time() if now_seconds is None else now_seconds
        origin = _origin(endpoint)
        expires, token = self._tokens.get(origin, (0.0, ""))
        # Ahead of what one made now would have, it was made by a clock that has been set back since.
        if not RENEW_SECONDS <= expires - now <= TOKEN_SECONDS:
            expires = now + TOKEN_SECONDS
            token = jwt.encode(
                {"aud": origin, "exp": int(expires), "sub": self._contact}, self._private, algorithm="ES256"
            )
            if len(self._tokens) >= ORIGINS_KEPT:
                self._tokens.clear()
            self._tokens[origin] = (expires, token)
        return f"vapid t={token}, k={self.public_key}"


def _origin(endpoint: str) -> str:
    """Serialise an origin as browsers and push services do (RFC 6454, 6.2): lower case, no default port."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, 443) else f":{parts.port}")


def load_or_make_keys(folder: Path, contact: str) -> VapidKeys:
    """Load the keys from the data folder, or generate them. Raises `OSError`, or `ValueError` for a damaged file. Blocking.

    A new file is complete before it gets its name, and the loser of a race uses the winner's file.
    """
    # At first need as well: most servers push nothing, and these take a tenth of a second to import.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / FILE_NAME
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{FILE_NAME}.")  # 0600 by nature
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            Path(name).unlink()
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ValueError(f"{path} does not hold a P-256 key")
    return VapidKeys(private, contact)
