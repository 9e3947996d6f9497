"""Who may write for which clients, among the nodes of a cluster: advisory locks that end with the transaction.

Everything that the writer relies on (find, then insert; a log's next number; a column's limit) holds while one transaction
at a time writes for a client. On a server of its own the single writer sees to that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set

from sqlalchemy import BigInteger, Connection, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

__all__ = ["lock_clients", "lock_everything"]


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=b"lv client").digest(), signed=True)


_EVERYTHING = _key("")
"""No client is called so: who writes for all of them takes this lock alone, the others share it."""
_LOCK_EVERYTHING = text(f"SELECT pg_advisory_xact_lock({_EVERYTHING})")
_SHARE_EVERYTHING = text(f"SELECT pg_advisory_xact_lock_shared({_EVERYTHING})")
_LOCK = text("SELECT pg_advisory_xact_lock(key) FROM unnest(:keys) AS key").bindparams(
    bindparam("keys", type_=ARRAY(BigInteger))
)


def lock_clients(connection: Connection, client_ids: Set[str]) -> None:
    """Wait until nobody else writes for any of the clients, and keep others out until the transaction ends.

    Must come first in the transaction: what was read before may have changed. All take their locks in one order, so that
    nobody waits for somebody who waits for them. The empty id stands for every client. PostgreSQL alone; blocking.
    """
    if "" in client_ids:
        lock_everything(connection)
        return
    connection.execute(_SHARE_EVERYTHING)
    connection.execute(_LOCK, {"keys": sorted(_key(one) for one in client_ids)})


def lock_everything(connection: Connection) -> None:
    """The same for all clients."""
    connection.execute(_LOCK_EVERYTHING)
