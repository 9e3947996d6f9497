"""What looks the same is the same: names, tags and searches in one form, and due dates to the millisecond."""

import json
import unicodedata
from pathlib import Path

import pytest
from sqlalchemy import text

from actors.storage.database import database_url, open_engine
from actors.storage.schema import NEWEST_REVISION, migrate, prepare_database
from protocol.codec import wire_time
from protocol.errors import InvalidField
from protocol.task_model import parse_moment_ms
from tests.postgresql_fixture import empty_postgresql_database
from tests.tasks.board_kit import BoardStore

WORDS = ["Müller", "Việt", "ガード", "한국"]
FORMS = [(word, made, asked) for word in WORDS for made, asked in (("NFC", "NFD"), ("NFD", "NFC"))]


@pytest.mark.parametrize(("word", "made", "asked"), FORMS)
def test_whatever_form_it_was_written_in_it_is_found_in_the_other(
    board: BoardStore, word: str, made: str, asked: str
) -> None:
    written, wanted = unicodedata.normalize(made, word), unicodedata.normalize(asked, word)
    task = board.create(f"x {written} y", project=written, tags=[written], assignee=written, description=written)
    for condition in (
        {"search": wanted},
        {"search": wanted.upper()},
        {"tags": [wanted]},
        {"project": wanted},
        {"assignee": wanted},
    ):
        assert [one.id for one in board.do("task_list", **condition).tasks] == [task.id], condition
    assert board.do("task_board", project=wanted).count == 1
    assert board.do("task_stats", project=wanted).count == 1
    # What people read stays as it was written; what things are found by has one form.
    assert (task.title, task.description) == (f"x {written} y", written)
    name = unicodedata.normalize("NFC", word)
    assert (task.project, task.tags, task.assignee) == (name, [name], name)


def test_two_forms_of_one_tag_are_one_tag_twice(board: BoardStore) -> None:
    with pytest.raises(InvalidField, match=r"data\.tags must not contain duplicates"):
        board.create("one", tags=["é", "e\u0301"])


def test_a_limit_of_a_board_holds_for_either_form_of_its_name(board: BoardStore) -> None:
    board.do("task_limits", project="Bu\u0308cher", limits={"todo": 1})
    board.create("one", project="Bücher", status="todo")
    with pytest.raises(Exception, match="limit"):
        board.create("two", project="Bu\u0308cher", status="todo")


# --- what older versions wrote ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def test_what_was_written_in_another_form_is_found_after_the_migration(tmp_path: Path, kind: str) -> None:
    url = database_url(None, tmp_path) if kind == "sqlite" else empty_postgresql_database()
    other = unicodedata.normalize("NFD", "Bücher")
    if kind == "sqlite":
        engine = open_engine(url, writes=True)
    else:
        prepare_database(url)
        engine = open_engine(url, writes=True)
    with engine.connect() as connection:
        migrate(connection, "0006")
        insert = text(
            "INSERT INTO tasks (id, client_id, project, title, status, priority, position, tags, attachments, assignee, "
            "ai_analysis_status, version, created_ms, updated_ms, entered_ms, search_text) "
            "VALUES (:id, 'me', :name, :name, 'todo', 1, 'V', :tags, '[]', :name, 'none', 1, 1, 1, 1, :search)"
        )
        for number, name in enumerate((other, "Bücher", "plain")):
            row = {"id": f"{number}" * 36, "name": name, "tags": json.dumps([name]), "search": name.lower()}
            connection.execute(insert, row)
            connection.execute(text("INSERT INTO task_tags VALUES (:id, :name)"), {"id": row["id"], "name": name})
        connection.execute(text("INSERT INTO task_tags VALUES (:id, 'Bücher')"), {"id": "0" * 36})
        for name, most in ((other, 3), ("Bücher", 5)):
            connection.execute(
                text("INSERT INTO board_limits VALUES ('me', :name, 'todo', :most)"), {"name": name, "most": most}
            )
        connection.execute(text("INSERT INTO board_limits VALUES ('you', :name, 'todo', 7)"), {"name": other})
        history = (
            "INSERT INTO task_history (client_id, task_id, project, version, kind, time_ms, device_id, changes) VALUES"
        )
        connection.execute(text(f"{history} ('me', 'x', :name, 1, 'created', 1, 'd', '{{}}')"), {"name": other})
        connection.commit()
        migrate(connection, NEWEST_REVISION)
        store = BoardStore(connection)
        assert (
            len(store.do("task_list", project="Bücher", search="BÜCHER", tags=["Bücher"], assignee="Bücher").tasks) == 2
        )
        assert connection.execute(text("SELECT count(*) FROM task_tags")).scalar() == 3
        limits = "SELECT client_id, project, most FROM board_limits ORDER BY client_id"
        assert connection.execute(text(limits)).all() == [("me", "Bücher", 5), ("you", "Bücher", 7)]
        assert connection.execute(text("SELECT project FROM task_history")).scalar() == "Bücher"
        # What people read is theirs.
        assert connection.execute(text("SELECT title FROM tasks WHERE id = :id"), {"id": "0" * 36}).scalar() == other
    engine.dispose()


# --- due dates ----------------------------------------------------------------------------------------

MOMENTS = [
    "9999-12-31T23:59:59.999Z",
    "2300-01-01T00:00:00.123Z",
    "2250-06-01T12:00:00.001Z",
    "1970-01-01T00:00:00.001Z",
    "2038-01-19T03:14:08.007Z",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_due_date_keeps_its_milliseconds_however_far_it_is_and_however_often_it_is_written(
    board: BoardStore, moment: str
) -> None:
    task = board.create("far", due=moment)
    for number in range(3):
        assert board.get(task).due == moment
        task = board.do("task_update", task_id=task.id, version=task.version, due=task.due, title=f"y{number}")
        assert task.due == moment


def test_each_millisecond_of_a_second_survives_in_every_century() -> None:
    for year in (1970, 2026, 2300, 5138, 9999):
        start = parse_moment_ms(f"{year}-06-30T23:59:59.000Z")
        assert start is not None
        for one in range(start, start + 1000):
            assert parse_moment_ms(wire_time(one / 1000)) == one


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-01-01T00:00:00.9999Z", "2026-01-01T00:00:00.999Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999Z"),
        ("2026-01-01T00:00:00.0005Z", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01T01:30:00.5+01:30", "2026-01-01T00:00:00.500Z"),
    ],
)
def test_what_is_finer_than_a_millisecond_is_left_out(given: str, kept: str) -> None:
    milliseconds = parse_moment_ms(given)
    assert milliseconds is not None
    assert wire_time(milliseconds / 1000) == kept
