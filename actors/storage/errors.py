"""Errors of a database that cannot be used.

::

    DatabaseUnusable        the server cannot start on this database; the text says what to do
    ├─ SchemaTooNew         a newer version of the program has changed it
    ├─ DatabaseHeld         another server uses it
    └─ DatabaseBroken       what is on disk is not what this server has opened, or makes no sense
"""

from __future__ import annotations

__all__ = ["DatabaseBroken", "DatabaseHeld", "DatabaseUnusable", "SchemaTooNew"]


class DatabaseUnusable(Exception):
    """The database cannot be opened or migrated."""


class SchemaTooNew(DatabaseUnusable):
    """The database was written by a newer version; an older one would damage it."""


class DatabaseHeld(DatabaseUnusable):
    """Another server uses it, and two would destroy each other's work."""


class DatabaseBroken(DatabaseUnusable):
    """The file was replaced, removed, truncated or garbled, so nothing may be written to it."""

    was_written = False
    """True if it was noticed after a commit, which went to a file that is no longer in place and may return."""
