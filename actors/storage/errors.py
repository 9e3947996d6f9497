"""What can be wrong with the database before anything runs.

::

    DatabaseUnusable        the server cannot start on this database; the text says what to do
    ├─ SchemaTooNew         a newer version of the program has changed it
    ├─ DatabaseHeld         another server uses it
    └─ DatabaseBroken       what is on disk is not what this server has opened, or makes no sense
"""

from __future__ import annotations

__all__ = ["DatabaseBroken", "DatabaseHeld", "DatabaseUnusable", "SchemaTooNew"]


class DatabaseUnusable(Exception):
    """The database cannot be opened or brought up to date."""


class SchemaTooNew(DatabaseUnusable):
    """The database was written by a newer version; an older one would harm it."""


class DatabaseHeld(DatabaseUnusable):
    """Another server uses it, and two would destroy each other's work."""


class DatabaseBroken(DatabaseUnusable):
    """Its file was replaced, removed, cut or garbled, so nothing may be written to it."""

    was_written = False
    """It was noticed after a commit: what that wrote is in a file that is not there now, and may come back."""
