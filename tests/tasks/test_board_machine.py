"""Board and rules held together: any sequence of commands of two devices leaves a board that keeps every rule, and a
device that only follows the events has the same board."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from actors.errors import CommandError
from actors.storage.database import open_engine
from actors.tasks.rules import TRANSITIONS, is_allowed
from protocol.board import BoardMirror
from protocol.errors import ErrorCode
from protocol.task_model import TaskStatus
from tests.database_fixture import fresh_database
from tests.tasks.board_kit import BoardStore

STATUSES = st.sampled_from(list(TaskStatus))
LIMIT = 3


def attempt(store: BoardStore, kind: str, **data: Any) -> tuple[Any, CommandError | None]:
    """What the command answers, or why it is refused."""
    try:
        return store.do(kind, **data), None
    except CommandError as refusal:
        return None, refusal


class BoardMachine(RuleBasedStateMachine):
    """A model in plain dictionaries beside the store."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="leanvibe-board-"))
        self.engine = open_engine(fresh_database(self.folder), writes=True)
        self.opened = self.engine.connect()
        self.transaction = self.opened.begin()
        self.store = BoardStore(self.opened)
        self.mirror = BoardMirror()
        self.order: dict[TaskStatus, list[str]] = {status: [] for status in TaskStatus}
        self.waits_for: dict[str, set[str]] = {}
        self.versions: dict[str, int] = {}

    def teardown(self) -> None:
        self.transaction.rollback()
        self.opened.close()
        self.engine.dispose()
        shutil.rmtree(self.folder)

    @initialize(target=known)
    def begin(self) -> Any:
        """A limit, and a column with enough tasks to move among."""
        self.store.do("task_limits", project="default", limits={"testing": LIMIT})
        return multiple(*(self.create(TaskStatus.TODO, []) for _ in range(4)))

    def attempt(self, kind: str, **data: Any) -> tuple[Any, CommandError | None]:
        """What the command answers, or why it is refused."""
        return attempt(self.store, kind, **data)

    def status_of(self, task_id: str) -> TaskStatus:
        return next(status for status, ids in self.order.items() if task_id in ids)

    @rule(target=known, status=STATUSES, others=st.lists(known, max_size=3, unique=True))
    def create(self, status: TaskStatus, others: list[str]) -> Any:
        wanted = [one for one in others if one in self.versions]
        is_full = status is TaskStatus.TESTING and len(self.order[status]) >= LIMIT
        title = f"task {next(self.store.numbers)}"
        task, refusal = self.attempt("task_create", title=title, status=status.value, dependencies=wanted)
        assert (refusal is not None) == is_full
        if refusal is not None:
            assert refusal.code is ErrorCode.CONFLICT
            return multiple()
        self.order[status].append(task.id)
        self.waits_for[task.id] = set(wanted)
        self.versions[task.id] = 1
        return task.id

    @rule(task_id=known, place=st.integers(0, 9), is_before=st.booleans())
    def move_within_its_column(self, task_id: str, place: int, is_before: bool) -> None:
        if task_id in self.versions:
            status = self.status_of(task_id)
            column = self.order[status]
            self.move(task_id, status, column[place % len(column)], is_before, False)

    @rule(task_id=known, status=STATUSES, beside=known, is_before=st.booleans(), is_stale=st.booleans())
    def move(self, task_id: str, status: TaskStatus, beside: str, is_before: bool, is_stale: bool) -> None:
        if task_id not in self.versions:
            return
        was = self.status_of(task_id)
        version = self.versions[task_id] - is_stale
        name = "before" if is_before else "after"
        anchor = {name: beside} if beside != task_id and beside in self.versions else {}
        is_full = status is not was and status is TaskStatus.TESTING and len(self.order[status]) >= LIMIT
        may_be = (
            version == self.versions[task_id]
            and is_allowed(was, status)
            and not is_full
            and (not anchor or beside in self.order[status])
        )
        if version < 1:
            return
        task, refusal = self.attempt("task_move", task_id=task_id, version=version, status=status.value, **anchor)
        if refusal is not None:
            assert not may_be, refusal
            if version == self.versions[task_id] and status not in (was, *TRANSITIONS[was]):
                assert all(one.value in refusal.message for one in TRANSITIONS[was])
            return
        assert may_be
        self.order[was].remove(task_id)
        column = self.order[status]
        column.insert(column.index(beside) + (not is_before) if anchor else len(column), task_id)
        self.versions[task_id] += 1
        assert task.version == self.versions[task_id]

    @rule(task_id=known, others=st.lists(known, max_size=3, unique=True))
    def depend(self, task_id: str, others: list[str]) -> None:
        if task_id not in self.versions:
            return
        wanted = [one for one in others if one in self.versions]
        reached, frontier = set(wanted), list(wanted)
        while frontier:
            new = self.waits_for[frontier.pop()] - reached
            reached |= new
            frontier += new
        try:
            task = self.store.do("task_update", task_id=task_id, version=self.versions[task_id], dependencies=wanted)
        except CommandError:
            assert task_id in reached
            return
        assert task_id not in reached
        self.waits_for[task_id] = set(wanted)
        self.versions[task_id] = task.version

    @rule(task_id=consumes(known), force=st.booleans())
    def delete(self, task_id: str, force: bool) -> None:
        if task_id not in self.versions:
            return
        dependents = [one for one, others in self.waits_for.items() if task_id in others]
        try:
            self.store.do("task_delete", task_id=task_id, version=self.versions[task_id], force=force)
        except CommandError:
            assert dependents
            assert not force
            return
        assert force or not dependents
        self.order[self.status_of(task_id)].remove(task_id)
        del self.versions[task_id], self.waits_for[task_id]
        for one in dependents:
            self.waits_for[one].discard(task_id)
            self.versions[one] += 1

    @invariant()
    def the_board_is_what_the_model_says(self) -> None:
        board = self.store.do("task_board", limit=100)
        for column in board.columns:
            assert [one.id for one in column.tasks] == self.order[column.status]
            assert column.count == len(column.tasks)
            for task in column.tasks:
                assert set(task.dependencies) == self.waits_for[task.id]
                assert task.version == self.versions[task.id]
                assert task.is_blocked == any(
                    self.status_of(one) is not TaskStatus.DONE for one in self.waits_for[task.id]
                )

    @invariant()
    def who_follows_the_events_has_the_same_board(self) -> None:
        for event in self.store.events:
            self.mirror.apply(event.type, event.data)
        self.store.events.clear()
        columns = self.mirror.columns()
        assert {status: [one["id"] for one in found] for status, found in columns.items()} == self.order
        for task_id, task in self.mirror.tasks.items():
            assert task["is_blocked"] == any(
                self.status_of(one) is not TaskStatus.DONE for one in self.waits_for[task_id]
            )


TestBoardMachine = pytest.mark.integration(BoardMachine.TestCase)
TestBoardMachine.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.integration
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    moves=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=25),
)
def test_two_browsers_converge_after_any_interleaving_of_moves(seed: int, moves: list[tuple[int, int, bool]]) -> None:
    """Each browser moves on what it has seen; both get the log in pieces of their own, some of them twice."""
    chosen = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="leanvibe-board-") as folder:
        engine = open_engine(fresh_database(Path(folder)), writes=True)
        with engine.connect() as opened, opened.begin():
            store = BoardStore(opened)
            ids = [store.create(title).id for title in "abcdef"]
            browsers = [BoardMirror(), BoardMirror()]
            reached = [0, 0]

            def hear(which: int, count: int) -> None:
                for event in store.events[max(0, reached[which] - 1) : reached[which] + count]:
                    browsers[which].apply(event.type, event.data)
                reached[which] = min(len(store.events), reached[which] + count)

            for which in (0, 1):
                hear(which, len(store.events))
            for moved, beside, is_before in moves:
                which = chosen.randrange(2)
                seen = browsers[which].tasks[ids[moved]]
                status = chosen.choice(["todo", "in_progress", seen["status"]])
                place = {} if moved == beside else {"before" if is_before else "after": ids[beside]}
                _, refusal = attempt(
                    store, "task_move", task_id=ids[moved], version=seen["version"], status=status, **place
                )
                # A browser that had not seen the newest is told what is.
                assert refusal is None or refusal.code in (ErrorCode.CONFLICT, ErrorCode.INVALID_FIELD)
                hear(chosen.randrange(2), chosen.randrange(4))
            for which in (0, 1):
                hear(which, len(store.events))
            board = store.do("task_board", limit=100)
        engine.dispose()
    expected = {column.status: [one.title for one in column.tasks] for column in board.columns}
    for browser in browsers:
        assert {status: [one["title"] for one in found] for status, found in browser.columns().items()} == expected
