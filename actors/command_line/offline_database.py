"""The database for commands that change it while no server runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from sqlalchemy import Engine

from actors.command_line.options import fail
from actors.inspection.server_file import DataFolderBusy, DataFolderUnsafe, lock_data_folder
from actors.settings import Settings
from actors.storage.backup_before import keeping_backup
from actors.storage.database import database_url, open_engine
from actors.storage.holding import holder_name, holding_file
from actors.storage.schema import prepare_database

__all__ = ["offline_database"]


@contextlib.contextmanager
def offline_database(settings: Settings, command: str, *, busy: str) -> Iterator[Engine]:
    """The engine of an up-to-date database, under the data folder's lock, so that no server starts meanwhile.

    Ends the command where the folder cannot be locked; ``busy`` is added to the sentence about another process that
    holds it. Raises `DatabaseUnusable`. Blocking.
    """
    try:
        lock = lock_data_folder(settings.data_dir)
    except DataFolderBusy as error:
        fail(f"{error}; {busy}")
    except DataFolderUnsafe as error:
        fail(str(error))
    except OSError as error:
        fail(f"the data folder {settings.data_dir} cannot be used: {error.strerror}; name another with --data-dir")
    try:
        url = database_url(settings.database, settings.data_dir)
        holder = holder_name(f"leanvibe {command}")
        with holding_file(url, holder, is_guarded=settings.database is None):
            prepare_database(url, holder, keep=keeping_backup(url, settings.data_dir))
            engine = open_engine(url, writes=True, holder=holder)
            try:
                yield engine
            finally:
                engine.dispose()
    finally:
        os.close(lock)
