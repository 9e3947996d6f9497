"""The schema: migrations produce the defined tables, can be reverted, follow a copy, and refuse newer databases."""

import importlib
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.engine import URL

from actors.storage.columns import COLUMNS
from actors.storage.database import database_url, open_engine
from actors.storage.errors import DatabaseUnusable, SchemaTooNew
from actors.storage.schema import MIGRATIONS, NEWEST_REVISION, migrate, prepare_database
from tests.postgresql_fixture import empty_postgresql_database

ROOMS_WITH_TABLES = [path.parent.name for path in sorted(Path("actors").glob("*/tables.py"))]


def all_tables() -> MetaData:
    together = MetaData()
    for service in ROOMS_WITH_TABLES:
        for table in importlib.import_module(f"actors.{service}.tables").metadata.tables.values():
            table.to_metadata(together)
    return together


def test_the_migrations_make_exactly_the_tables_that_the_services_describe(database_engine: Engine) -> None:
    with database_engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), all_tables()) == []


def test_every_step_goes_up_and_down_again(tmp_path: Path) -> None:
    engine = open_engine(database_url(None, tmp_path), writes=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    steps = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
    assert steps[0] == NEWEST_REVISION
    with engine.connect() as connection:
        for revision in reversed(steps):
            migrate(connection, revision)
        for revision in [*steps[1:], ""]:
            migrate(connection, revision)
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_a_file_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    url = database_url(None, tmp_path)
    engine = open_engine(url, writes=True)
    with engine.connect() as connection:
        migrate(connection, "0001")
        connection.execute(text("INSERT INTO client_logs VALUES ('me', 'e', 7)"))
        connection.commit()
    engine.dispose()
    assert prepare_database(url) == "0001"
    copy = URL.create("sqlite", database=f"{url.database}.before-0001")
    engine = open_engine(copy, writes=False)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT head FROM client_logs")).scalar() == 7
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0001"
    engine.dispose()


def test_a_database_of_a_newer_program_is_refused_and_left_alone(database: URL) -> None:
    engine = open_engine(database, writes=True)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(SchemaTooNew, match="revision 9999"):
        prepare_database(database)
    assert not list(Path(str(database.database)).parent.glob("*.before-*"))


def test_what_is_no_database_is_refused_with_its_name(tmp_path: Path) -> None:
    url = database_url(None, tmp_path)
    Path(str(url.database)).write_bytes(b"this is no database" * 100)
    with pytest.raises(DatabaseUnusable, match=r"leanvibe\.sqlite3 cannot be used: file is not a database"):
        prepare_database(url)


@pytest.mark.parametrize("text_of_url", ["mysql://x", "not a url"])
def test_another_kind_of_database_is_refused(text_of_url: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable):
        database_url(text_of_url, tmp_path)


def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    url = database_url(None, tmp_path / "data")
    assert prepare_database(url) == ""
    assert Path(str(url.database)).stat().st_mode & 0o777 == 0o600
    assert prepare_database(url) == NEWEST_REVISION


@pytest.mark.integration
def test_on_postgresql_every_step_goes_up_and_down_and_ends_at_the_tables() -> None:
    url = empty_postgresql_database()
    assert prepare_database(url) == ""
    assert prepare_database(url) == NEWEST_REVISION
    engine = open_engine(url, writes=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    steps = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), all_tables()) == []
        connection.rollback()
        for revision in [*steps[1:], ""]:
            migrate(connection, revision)
        assert inspect(connection).get_table_names() == ["alembic_version"]
        connection.rollback()
        for revision in reversed(steps):
            migrate(connection, revision)
    engine.dispose()


def test_what_a_start_looks_for_is_what_the_services_describe() -> None:
    described = {table.name: {column.name for column in table.columns} for table in all_tables().tables.values()}
    assert {name: set(columns.split()) for name, columns in COLUMNS.items()} == described
