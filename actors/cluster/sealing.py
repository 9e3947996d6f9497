"""Encryption of what passes through the broker: AES-256-GCM, bound to the key that it is stored under."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from actors.cluster.carrier import Forged

__all__ = ["Seal"]

NONCE_BYTES = 12


class Seal:
    """Encrypts and authenticates with keys derived from the cluster's one.

    A random nonce may be used some 2**32 times under one key (NIST SP 800-38D, 8.3), so each place, a log or a topic, has a
    key of its own.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ciphers: dict[str, AESGCM] = {}

    def seal(self, place: str, plain: bytes, bound: str = "") -> bytes:
        """Encrypt for a place; ``bound`` must be the same when it is opened."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher(place).encrypt(nonce, plain, bound.encode())

    def open(self, place: str, sealed: bytes, bound: str = "") -> bytes:
        """Decrypt. Raises `Forged`."""
        try:
            return self._cipher(place).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound.encode())
        except (InvalidTag, ValueError) as error:
            raise Forged(
                f"what the broker holds at {place.split(':', maxsplit=1)[0]} was not written with this cluster's key"
            ) from error

    def _cipher(self, place: str) -> AESGCM:
        cipher = self._ciphers.get(place)
        if cipher is None:
            if len(self._ciphers) >= 1024:
                self._ciphers.clear()
            derived = hmac.digest(self._key, f"leanvibe carrier {place}".encode(), hashlib.sha256)
            cipher = self._ciphers[place] = AESGCM(derived)
        return cipher
