"""A session of `leanvibe chat`: questions, answers and slash commands. The only module of the chat that reads and writes files."""

from __future__ import annotations

import urllib.parse
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio
from attrs import define, field
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from actors.command_line.answer_options import AnswerOptions, BadOption, answer_note
from actors.command_line.answer_shown import AnswerShown, answer_shown
from actors.command_line.chat_conversations import NotOne, free_name, new_name, stored_conversations, stored_name
from actors.command_line.chat_input import COMMANDS, Slash
from actors.command_line.credentials import Credentials
from actors.command_line.failure_words import failure_words, words_of_fault
from actors.command_line.outage import Outage
from actors.command_line.printing import print_line
from actors.command_line.rest_call import RestFailed, rest_call
from actors.command_line.screen import Screen, markdown, words
from actors.rest.conversation_export import turn_as_markdown
from actors.terminal_text import one_line
from protocol.client import Client, CommandFailed, Disconnected, OutcomeUnknown
from protocol.commands import MAXIMUM_FRAME_BYTES, Assist, ChatMessage, Generate, GetProgress, Intent, Role
from protocol.errors import BadMessage, ErrorCode
from protocol.events import ProgressData, ProgressState
from protocol.programming_languages import language_of_file
from protocol.validation import FieldFault

__all__ = ["ChatSession", "FileProblem", "read_source", "waiting_words"]

REST_SECONDS = 120.0
STATUS_SECONDS = 2.0
ANSWERS = 100
"""That can be copied."""
LAST_TURN = 2**53
"""No turn has so high a number."""
CHANGE_SECONDS = 900.0
"""A change of models drains the answers that run, and loads gigabytes."""


def waiting_words(progress: ProgressData) -> str:
    """Describe what a question is waiting for."""
    if progress.state is ProgressState.WAITING:
        others = progress.waiting - 1
        return "queued" if others < 1 else f"queued with {others} other{'s' if others > 1 else ''}"
    if progress.read_tokens < progress.prompt_tokens:
        return f"reading {progress.read_tokens:,} of {progress.prompt_tokens:,} tokens"
    return "answering"


def way_words(turn: dict[str, Any]) -> str:
    """Return the position of a turn among its alternatives, if there are any."""
    ways = turn.get("ways")
    return f" ({ways.index(turn['number']) + 1} of {len(ways)})" if ways else ""


class FileProblem(Exception):
    """A file cannot be read or written; the text says which and why."""


@define(kw_only=True)
class ChatSession:
    """The conversation that is open, and the way to the server."""

    client: Client
    console: Screen
    rest_url: str | None
    """None where the server was named by its WebSocket; what asks over REST says so."""
    credentials: Credentials
    """How REST is entered."""
    client_id: str
    """Who asks over REST."""
    outage: Outage
    """Whether the server is away."""
    conversation: str
    """Its name; the server keeps its turns."""
    options: AnswerOptions = field(factory=AnswerOptions)
    """How answers are asked for."""
    _board: list[dict[str, Any]] = field(factory=list)
    """Tasks as they were last shown; their numbers begin at 1."""
    has_left: bool = False
    """True once the person wants to leave."""
    _answers: deque[str] = field(factory=lambda: deque(maxlen=ANSWERS))
    """The last ones as the model wrote them."""
    _last: Generate | Assist | None = None
    _stream: str | None = None
    """Of the answer that is waited for."""
    _shown: AnswerShown | None = None
    """The answer that is being shown."""

    async def say(self, text: str) -> None:
        """Say something and show the answer while it comes."""
        try:
            generate = Generate(
                messages=[ChatMessage(Role.USER, text)],
                conversation=self.conversation,
                **self.options.fields(self.client),
            )
        except FieldFault as fault:
            self._problem(words_of_fault(fault.path, fault.problem))
            return
        await self._answer(generate)

    async def carry_out(self, slash: Slash) -> None:
        """Do what a slash command says; what goes wrong is a line for a person."""
        actions: dict[str, Callable[[str], Awaitable[None]]] = {
            "help": self._help,
            "status": self._status,
            "model": self._model,
            "tasks": self._tasks,
            "task": self._task,
            "history": self._history,
            "reset": self._reset,
            "save": self._save,
            "clear": self._clear,
            "conversations": self._conversations,
            "copy": self._copy,
            "retry": self._retry,
            "set": self._set,
            "bye": self._leave,
            "exit": self._leave,
        }
        try:
            if slash.name in actions:
                await actions[slash.name](slash.argument)
            else:
                await self._assist(Intent(slash.name), slash.argument)
        except (CommandFailed, OutcomeUnknown) as error:
            self._problem(_said(error))
        except Disconnected as error:
            self._end_or_tell(error)
        except (FileProblem, BadOption, NotOne, RestFailed, OSError) as error:
            self._problem(str(error))

    # --- answers ----------------------------------------------------------------------------------

    async def _assist(self, intent: Intent, name: str) -> None:
        content = await trio.to_thread.run_sync(read_source, name)
        try:
            assist = Assist(
                intent=intent,
                content=content,
                file_path=name,
                language=language_of_file(name),
                conversation=self.conversation,
            )
        except FieldFault as fault:
            raise FileProblem(f"{name}: {words_of_fault(fault.path, fault.problem)}") from None
        await self._answer(assist)

    async def _answer(self, command: Generate | Assist) -> None:
        """Show the answer while it comes; cancelled, what there is of it stays."""
        self._last, self._stream = command, None
        with self._showing() as shown:
            failed: Exception | None = None
            pieces: list[str] = []
            done: dict[str, Any] = {}
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(shown.keep_up, self._waiting)
                    try:
                        await self.client.until_connected()
                        async with self.client.generate(command) as answer:
                            self._stream = answer.stream
                            async for piece in answer:
                                pieces.append(piece)
                                shown.add(piece)
                        done = answer.done or {}
                    except (CommandFailed, OutcomeUnknown, Disconnected) as error:
                        failed = error
                    nursery.cancel_scope.cancel(reason="the answer is over")
            finally:
                if pieces:
                    self._answers.append("".join(pieces))
        if isinstance(failed, Disconnected) and not isinstance(failed, OutcomeUnknown):
            self._end_or_tell(failed)
        elif failed is not None:
            self._problem(_said(failed))
        self._tell_dropped(done)
        if note := answer_note(done, option="/set max-tokens N"):
            self.console.print(f"[dim]{note}[/dim]")

    @contextmanager
    def _showing(self) -> Iterator[AnswerShown]:
        with answer_shown(self.console) as shown:
            self._shown = shown
            try:
                yield shown
            finally:
                self._shown = None

    def notice(self, text: str) -> bool:
        """Print a note while an answer is shown; returns False if none is."""
        if self._shown is not None:
            self._shown.note(text)
        return self._shown is not None

    async def _waiting(self) -> str:
        """Return the state of a question without an answer yet. Never raises, because the server may be away or older."""
        if self.outage.is_away:
            return "waiting for the server"
        if self._stream is None:
            return "asking"
        try:
            with trio.fail_after(STATUS_SECONDS):
                progress = await self.client.ask(GetProgress(self._stream))
        except (CommandFailed, Disconnected, BadMessage, trio.TooSlowError):
            return "waiting for the server"
        return waiting_words(progress) if isinstance(progress, ProgressData) else "waiting for the answer"

    async def _retry(self, _: str) -> None:
        """The answer stands in place of the one before, which the server keeps as another way."""
        asked = await self._last_question()
        if asked is not None:
            again: Generate | Assist
            if isinstance(self._last, Assist) and self._last.content == asked["content"]:
                again = attrs.evolve(self._last, answers=asked["number"])
            else:
                again = Generate(
                    conversation=self.conversation, answers=asked["number"], **self.options.fields(self.client)
                )
            await self._answer(again)
        elif self._last is not None:
            # It was refused before it was stored.
            await self._answer(self._last)
        else:
            raise FileProblem("nothing was asked yet")

    async def _last_question(self) -> dict[str, Any] | None:
        """The user's last turn of the conversation, as it is stored."""
        asked = {"conversation": self.conversation, "before": LAST_TURN, "limit": 2}
        try:
            turns = (await self.client.command("conversation_get", asked))["data"]["turns"]
        except CommandFailed as error:
            if error.code != ErrorCode.NOT_FOUND.value:
                raise
            return None
        return next((one for one in reversed(turns) if one["role"] == "user"), None)

    async def _copy(self, argument: str) -> None:
        number = argument or "1"
        if not number.isdecimal() or not 1 <= int(number) <= len(self._answers):
            raise FileProblem(f"there is no answer {number[:20]}; this chat shows {len(self._answers)} so far")
        print_line(self._answers[-int(number)])

    async def _set(self, argument: str) -> None:
        if argument:
            self.options = self.options.with_option(argument)
        table = Table(show_header=False, box=None)
        for name, value in self.options.shown(self.client).items():
            table.add_row(name, value)
        self.console.print(table)

    def _end_or_tell(self, error: Disconnected) -> None:
        """An answer that is lost is a line; where no connection will follow there is nothing to talk with."""
        if self.client.has_ended:
            raise error
        self._problem(str(error))

    def _tell_dropped(self, done: dict[str, Any]) -> None:
        dropped = done.get("dropped") or {}
        lines = dropped.get("lines_before", 0) + dropped.get("lines_after", 0)
        if lines:
            self.console.print(f"[yellow]{lines} lines far from the cursor did not fit and were left out[/yellow]")
        if dropped.get("turns"):
            self.console.print(f"[dim]the {dropped['turns']} oldest turns were left out[/dim]")

    # --- what is there ----------------------------------------------------------------------------

    async def _help(self, _: str) -> None:
        # As texts with a style: where it is no terminal a row is a line, and marks of a style would stand in it.
        table = Table(show_header=False, box=None)
        for command in COMMANDS.values():
            table.add_row(words(command.usage, "bold"), command.help)
        table.add_row(words("Alt-Enter", "bold"), "a line break; a text that is pasted is one text")
        table.add_row(
            Text.assemble(("Ctrl-R", "bold"), ", arrows, Tab"),
            "search what was typed before, go through it, complete it",
        )
        table.add_row(Text.assemble(("\\", "bold"), " at a line's end"), "the next line belongs to it")
        table.add_row(Text.assemble(('"""', "bold"), " alone on a line"), "begins and ends a text of many lines")
        self.console.print(table)

    async def _status(self, _: str) -> None:
        health = await self._rest("GET", "/health")
        engine = health["engine"]
        self.console.print(
            f"[bold]{health['status']}[/bold]: {escape(str(engine['model']))}, {engine['running']} running, "
            f"{engine['queue_depth']} waiting, {engine['restarts']} restarts, conversation {self.conversation}",
            highlight=False,
        )
        for reason in health["reasons"]:
            self.console.print(f"[yellow]{escape(reason)}[/yellow]")

    async def _model(self, name: str) -> None:
        if name:
            await self._rest("POST", f"/models/{urllib.parse.quote(name)}/load", CHANGE_SECONDS)
        health = await self._rest("GET", "/health")
        self.console.print(
            f"[bold]{escape(str(health['engine']['model']))}[/bold] ({health['engine']['status']})", highlight=False
        )

    async def _rest(self, method: str, path: str, seconds: float = REST_SECONDS) -> dict[str, Any]:
        if self.rest_url is None:
            raise RestFailed("this asks the server over REST, and --url named its WebSocket alone")
        ask = partial(rest_call, credentials=self.credentials, seconds=seconds, client_id=self.client_id)
        told: dict[str, Any] = await trio.to_thread.run_sync(ask, method, self.rest_url + path, abandon_on_cancel=True)
        return told

    # --- tasks ------------------------------------------------------------------------------------

    async def _tasks(self, _: str) -> None:
        board = (await self.client.command("task_board", {}))["data"]
        self._board = [task for column in board["columns"] for task in column["tasks"]]
        if not self._board:
            self.console.print("no tasks; /task TITLE makes one")
            return
        table = Table()
        for heading in ("", "column", "title", "priority"):
            table.add_column(heading)
        for number, task in enumerate(self._board, start=1):
            table.add_row(str(number), task["status"], escape(one_line(task["title"])), task["priority"])
        self.console.print(table)

    async def _task(self, argument: str) -> None:
        words = argument.split()
        if words[0] == "move" and len(words) == 3 and words[1].isdigit():
            task = self._numbered(words[1])
            data = {"task_id": task["id"], "version": task["version"], "status": words[2]}
            moved = (await self.client.command("task_move", data))["data"]
            self.console.print(f"{escape(one_line(moved['title']))}: {moved['status']}", highlight=False)
            await self._tasks("")
        elif words[0] == "show" and len(words) == 2 and words[1].isdigit():
            task = (await self.client.command("task_get", {"task_id": self._numbered(words[1])["id"]}))["data"]
            self.console.print(f"[bold]{escape(one_line(task['title']))}[/bold] ({task['status']})\n")
            self.console.print(markdown(task.get("description") or ""), soft_wrap=True)
        else:
            # As `leanvibe task add TITLE` has it, for fingers that are used to it.
            title = argument.removeprefix("add ").strip() or argument
            made = (await self.client.command("task_create", {"title": title}))["data"]
            self.console.print(f"made: {escape(one_line(made['title']))} ({made['status']})", highlight=False)

    def _numbered(self, number: str) -> dict[str, Any]:
        if not 1 <= int(number) <= len(self._board):
            raise FileProblem(f"no task has the number {number}; /tasks shows them")
        return self._board[int(number) - 1]

    # --- the conversation -------------------------------------------------------------------------

    async def _turns(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            asked = {"conversation": self.conversation, "after": after}
            page = (await self.client.command("conversation_get", asked))["data"]
            turns += page["turns"]
            after = page.get("next")
        return turns

    async def _history(self, _: str) -> None:
        try:
            turns = await self._turns()
        except CommandFailed as error:
            if error.code != ErrorCode.NOT_FOUND.value:
                raise
            self.console.print("nothing said yet")
            return
        for turn in turns:
            said = "you" if turn["role"] == "user" else "model"
            self.console.print(f"[bold]{said}[/bold]{way_words(turn)}", highlight=False)
            self.console.print(markdown(turn["content"]), soft_wrap=True)

    async def _reset(self, name: str) -> None:
        before = self.conversation
        self.conversation = await free_name(self.client, name, goes_on="/conversations") if name else new_name()
        self.console.print(f"[dim]{before} stays stored; {self.conversation} begins[/dim]", highlight=False)

    async def _clear(self, argument: str) -> None:
        self.console.clear()
        await self._reset(argument)

    async def _conversations(self, name: str) -> None:
        if name:
            self.conversation = await stored_name(self.client, name, begins="/reset")
            self.console.print(f"going on with {self.conversation}", highlight=False)
            return
        found = await stored_conversations(self.client)
        if not found:
            self.console.print("no stored conversations")
        for one in found:
            mark = "*" if one["conversation"] == self.conversation else " "
            self.console.print(
                f"{mark} {escape(one_line(one['conversation']))} ({one['turns']} turns)", highlight=False
            )

    async def _leave(self, _: str) -> None:
        self.has_left = True

    async def _save(self, name: str) -> None:
        parts = [
            turn_as_markdown(f"{'You' if turn['role'] == 'user' else 'LeanVibe'} ({turn['time']})", turn["content"])
            for turn in await self._turns()
        ]
        path = await trio.to_thread.run_sync(_write_new, name, "\n".join([f"# {self.conversation}\n", *parts]))
        self.console.print(f"saved to {path}", highlight=False)

    def _problem(self, text: str) -> None:
        self.console.print(f"[red]{escape(text)}[/red]", highlight=False)


def _said(error: Exception) -> str:
    return failure_words(error.data) if isinstance(error, CommandFailed) else str(error)


def read_source(name: str) -> str:
    """A file of the person's as text, in this process and never on the server. Blocking. Raises `FileProblem`."""
    path = _own_path(name)
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_FRAME_BYTES + 1)
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAXIMUM_FRAME_BYTES:
        raise FileProblem(f"{path} is larger than {MAXIMUM_FRAME_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise FileProblem(f"{path} is not UTF-8 text") from None


def _own_path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise FileProblem(f"{name}: there is no such user, or no home folder") from None


def _write_new(name: str, text: str) -> Path:
    path = _own_path(name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
            return path
    except FileExistsError:
        raise FileProblem(f"{path} is there already; choose another name") from None
    except OSError as error:
        raise FileProblem(f"{path} cannot be written: {error.strerror}") from None
