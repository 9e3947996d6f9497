"""A clock that was set back makes no time negative."""

from sqlalchemy import select

from actors.tasks.tables import history
from tests.tasks.board_kit import DAY_MS, BoardStore


def test_no_stay_in_a_column_is_shorter_than_nothing(board: BoardStore) -> None:
    board.now_ms += 2 * DAY_MS
    task = board.move(board.create("while ahead", status="todo"), "in_progress")
    board.now_ms -= 2 * DAY_MS
    board.move(task, "done")
    rows = board.connection.execute(select(history.c.stay_ms, history.c.cycle_ms)).all()
    assert [min(one for one in row if one is not None) for row in rows if any(one is not None for one in row)] == [0, 0]


def test_what_was_done_in_a_time_to_come_was_done_on_no_day_until_then(board: BoardStore) -> None:
    board.now_ms += 2 * DAY_MS
    board.create("while ahead", status="done")
    board.move(board.create("moved while ahead", status="testing"), "done")
    board.now_ms -= 2 * DAY_MS
    figures = board.do("task_stats")
    assert (figures.done_today, figures.done_7_days, figures.done_per_day, figures.cycles) == (0, 0, 0.0, 0)
    assert [one.stays for one in figures.columns] == [0] * len(figures.columns)
    board.now_ms += 2 * DAY_MS
    assert board.do("task_stats").done_today == 1
