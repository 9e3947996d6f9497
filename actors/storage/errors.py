"""What can be wrong with the database before anything runs.

::

    DatabaseUnusable        the server cannot start on this database; the text says what to do
    └─ SchemaTooNew         a newer version of the program has changed it
"""

from __future__ import annotations

__all__ = ["DatabaseUnusable", "SchemaTooNew"]


class DatabaseUnusable(Exception):
    """The database cannot be opened or brought up to date."""


class SchemaTooNew(DatabaseUnusable):
    """The database was written by a newer version; an older one would harm it."""
