"""Input of clients and checkpoints is run in processes that may be killed: real processes, a small tokenizer, no model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio

from actors.inference.messages import GenerationRefused, ModelRefused
from actors.inference.process_family import FamilyMemory, family_bytes
from actors.inference.prompts import PromptEncoder
from actors.inference.sandbox.actor import Sandbox
from actors.inference.sandbox.fork_server import ForkServerProcess
from actors.inference.sandbox.limits import JOB_LIMITS, OPEN_MEMORY_BYTES, JobKind, JobLimits
from actors.inference.sandbox.memory_watch import MemoryWatch, held_bytes
from actors.inference.sandbox_messages import EncodePrompt, OpenText, SetOpenTexts
from actors.inference.text.text_model import CheckpointText, MockText
from actors.inference.text.token_text import SandboxedText
from actors.inference.tools import CallableFunction, GenerateWithTools, ToolCallConstraint, ToolCallFormat
from actors.inference.watchdog import RunQueueDelay
from actors.inference.worker_process import WorkerProcess
from protocol.commands import ChatMessage, Generate, Role
from protocol.errors import ErrorCode
from runtime import ActorRef, ActorSystem, ChildSpec, SupervisorSpec
from runtime.inspection import actor_snapshot
from runtime.testing import crash, running
from tests.server_fixture import eventually

from .test_text_model import WITH_TOOLS
from .tiny_text import TEMPLATE, write_text_folder

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 120.0
ENDLESS = {"type": "integer", "multipleOf": 999_983}
"""Minutes of work for the grammar engine."""
CRASHES = {"type": "integer", "allOf": [{"minimum": -1e308}, {"maximum": -1e308}]}
"""The grammar engine ends by SIGSEGV or SIGABRT."""
DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(3):
    DEEP = {"type": "array", "items": DEEP}
NASTY_WHEN_ASKED = (
    "{% for message in messages %}{% if message['content'] == 'power' %}{% set n = 9 ** 9 %}{{ 9 ** n }}"
    "{% elif message['content'] == 'loop' %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    "{% elif message['content'] == 'memory' %}{{ [message] | tojson(indent=1500000000) }}{% endif %}{% endfor %}"
    + TEMPLATE
)


def short_limits(**changes: Any) -> dict[JobKind, JobLimits]:
    """The limits of the product with less processor time, so that what never ends costs a test little."""
    return {kind: attrs.evolve(one, processor_seconds=0.4, **changes) for kind, one in JOB_LIMITS.items()}


@asynccontextmanager
async def sandbox_running(
    limits: dict[JobKind, JobLimits] | None = None, **settings: Any
) -> AsyncIterator[ActorSystem]:
    spec = ChildSpec(
        id="sandbox", start=lambda: Sandbox(limits or short_limits(), open_processor_seconds=3.0, **settings)
    )
    async with running(SupervisorSpec(children=(spec,))) as system:
        yield system


def reference(system: ActorSystem) -> ActorRef[Any]:
    return system.reference("sandbox")


async def opened(system: ActorSystem, folder: Path) -> SandboxedText:
    return SandboxedText(folder, await reference(system).ask(OpenText(folder), timeout=PATIENCE_SECONDS))


async def encode(system: ActorSystem, folder: Path, client: str = "a", **fields: Any) -> list[int]:
    message = EncodePrompt(folder=folder, client_id=client, generate=Generate(**fields))
    ids: list[int] = await reference(system).ask(message, timeout=PATIENCE_SECONDS)
    return ids


async def refusal(system: ActorSystem, folder: Path, client: str = "a", **fields: Any) -> GenerationRefused:
    with pytest.raises(GenerationRefused) as caught:
        await encode(system, folder, client, **fields)
    return caught.value


def said(content: str) -> list[ChatMessage]:
    return [ChatMessage(Role.USER, content)]


async def figures(system: ActorSystem) -> Any:
    return await actor_snapshot(system, "sandbox", timeout=60)


async def processes(system: ActorSystem) -> dict[str, list[int]]:
    """Process ids by kind, of the one fork server."""
    (server,) = (await figures(system))["fork_servers"]
    return {"server": [server["pid"]], **server["processes"]}


CROWDED = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for _ in range(8):
    if os.fork() == 0:
        break
while True:
    pass
"""
"""A process that shares one processor with eight others of its session, as busy as itself."""


SLOW_GRAMMARS = """
import sys, time
from pathlib import Path
from actors.inference.sandbox import __main__ as program

def load_grammars(self):
    while not released.exists():
        time.sleep(0.01)
    self._send("grammars_loaded", {})

released = Path(sys.argv.pop(1))
program.ForkServer._load_grammars = load_grammars
program.main()
"""
"""A fork server that has its grammars once a file is there."""


def peak_bytes(pid: int) -> int:
    """The most memory that a process had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def until_gone(pids: list[int], seconds: float = PATIENCE_SECONDS) -> None:
    with trio.fail_after(seconds):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110  a process tells nobody but its parent
            await trio.sleep(0.02)


def maps_grammars(pid: int) -> bool:
    return "llguidance" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what a process has mapped")
async def test_te46_grammars_at_need_are_loaded_for_the_first_schema_and_for_no_prompt(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    async with sandbox_running(JOB_LIMITS, grammars_at_need=True) as system:
        await encode(system, folder, messages=said("Hello"))
        (server,) = (await processes(system))["server"]
        assert not maps_grammars(server)
        await encode(system, folder, messages=said("Hello"), response_schema={"type": "integer"})
        assert maps_grammars(server)
        assert not (await figures(system))["ended_jobs"]
        os.kill(server, signal.SIGKILL)
        await until_gone([server])
        # One that ended before anybody needed them is no reason to do without.
        await encode(system, folder, client="b", messages=said("Hello again"))
        (server,) = (await processes(system))["server"]
        os.kill(server, signal.SIGKILL)
        await until_gone([server])
        await encode(system, folder, messages=said("Hello"), response_schema={"type": "boolean"})
        (server,) = (await processes(system))["server"]
        assert maps_grammars(server)


# --- the same text as without -------------------------------------------------------------------------


async def test_the_sandbox_encodes_and_the_server_decodes_what_the_checkpoint_says(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    whole = CheckpointText(folder)
    async with sandbox_running() as system:
        text = await opened(system, folder)
        assert (text.vocabulary_size, text.context_tokens) == (whole.vocabulary_size, whole.context_tokens)
        assert (text.stop_token_ids, text.tool_call_format) == (whole.stop_token_ids, whole.tool_call_format)
        for fields in ({"prompt": "naïve café 😀 aaaa"}, {"messages": said("hello 東京")}):
            ids = await encode(system, folder, **fields)
            assert ids == whole.encode(Generate(**fields))
            assert text.decode(ids) == whole.decode(ids)
            streams = [one.detokenizer() for one in (text, whole)]
            pieces = [[stream.feed(token_id) for token_id in ids] + [stream.finish()] for stream in streams]
            assert pieces[0] == pieces[1]
        too_wrong = await refusal(system, folder, prompt="x", response_schema={"type": "nonsense"})
        assert (too_wrong.code, too_wrong.field) == (ErrorCode.INVALID_FIELD, "data.response_schema")


async def test_jd1_no_pattern_of_a_checkpoint_reaches_the_server_process(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "(z+z+)+y"}, "content": "z"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    async with sandbox_running() as system:
        report = await reference(system).ask(OpenText(folder), timeout=PATIENCE_SECONDS)
        assert "Regex" not in report.decoding
        assert "z+z+" not in report.decoding
        # The regex library gives up with a panic after a while of going back and forth.
        stuck = await refusal(system, folder, prompt="z" * 40)
        assert (stuck.code, stuck.field) == (ErrorCode.INVALID_FIELD, "data.prompt")
        assert "tokenizer" in stuck.message
        assert await encode(system, folder, prompt="hello")
    content["decoder"] = {"type": "Replace", "pattern": {"Regex": "(x+x+)+y"}, "content": "z"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    async with sandbox_running() as system:
        with pytest.raises(ModelRefused, match="decoder Replace is not supported"):
            await opened(system, folder)


# --- schemas ------------------------------------------------------------------------------------------


async def test_jd2_a_schema_that_never_ends_or_kills_is_refused_by_name_and_costs_one_process_once(
    tmp_path: Path,
) -> None:
    folder = write_text_folder(tmp_path / "model")
    async with sandbox_running() as system:
        await opened(system, folder)
        for schema in (ENDLESS, CRASHES):
            first = await refusal(system, folder, prompt="x", response_schema=schema)
            assert (first.code, first.field) == (ErrorCode.INVALID_FIELD, "data.response_schema"), first.message
            ended = (await figures(system))["ended_jobs"]
            again = await refusal(system, folder, "another", prompt="y", response_schema=schema)
            assert again.message == first.message
            assert (await figures(system))["ended_jobs"] == ended, "what is known is not tried again"
        assert await encode(system, folder, prompt="x", response_schema=DEEP)


async def test_jd2_schemas_for_the_mock_engine_are_tried_in_the_sandbox_too() -> None:
    async with sandbox_running() as system:
        prompts = PromptEncoder(reference(system))
        assert (await figures(system))["fork_servers"] == []
        assert await prompts.encode(MockText(), Generate(prompt="né")) == list("né".encode())
        assert (await figures(system))["fork_servers"] == [], "what has no schema needs none"
        for schema in (ENDLESS, CRASHES, {"type": "nonsense"}):
            with pytest.raises(GenerationRefused) as caught:
                await prompts.encode(MockText(), Generate(prompt="x", response_schema=schema))
            assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_FIELD, "data.response_schema")
        assert await prompts.encode(MockText(), Generate(prompt="né", response_schema=DEEP)) == list("né".encode())
        await reference(system).tell(SetOpenTexts(frozenset()))
        assert len((await figures(system))["fork_servers"]) == 1


async def test_jd2_parameters_of_tools_are_named_where_one_of_them_never_ends(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(WITH_TOOLS)
    functions = [
        CallableFunction(name=f"f{number}", parameters=parameters, path=f"tools[{number}].function.parameters")
        for number, parameters in enumerate(({"type": "object"}, {"type": "object", "properties": {"n": ENDLESS}}))
    ]
    rule = ToolCallConstraint(
        tool_call_format=ToolCallFormat.TAGGED,
        functions=tuple(functions),
        is_required=True,
        most_calls=1,
        source_field="tool_choice",
    )
    request = GenerateWithTools(
        messages=said("x"),
        turns=[{"role": "user", "content": "x"}],
        tools=[{"type": "function", "function": {"name": one.name}} for one in functions],
        tool_call_format=ToolCallFormat.TAGGED,
        call_rule=rule,
    )
    async with sandbox_running() as system:
        await opened(system, folder)
        message = EncodePrompt(folder=folder, client_id="a", generate=request)
        with pytest.raises(GenerationRefused) as caught:
            await reference(system).ask(message, timeout=PATIENCE_SECONDS)
        assert caught.value.field == "data.tools[1].function.parameters"


async def test_jd3_one_clients_endless_schemas_delay_nobody_elses_and_no_prompt(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    limits = {kind: attrs.evolve(one, processor_seconds=30.0) for kind, one in JOB_LIMITS.items()}
    async with sandbox_running(limits) as system, trio.open_nursery() as nursery:
        await opened(system, folder)
        await encode(system, folder, prompt="x", response_schema=DEEP)

        async def endless(number: int) -> None:
            schema = {**ENDLESS, "title": str(number)}
            await encode(system, folder, "nasty", prompt="x", response_schema=schema)

        for number in range(10):
            nursery.start_soon(endless, number)
        with trio.fail_after(PATIENCE_SECONDS):
            while (await figures(system))["running"]["schema"] < JOB_LIMITS[JobKind.SCHEMA].processes_of_client:  # noqa: ASYNC110
                await trio.sleep(0.01)
        # The ten take minutes: these come first or not at all.
        assert await encode(system, folder, "nasty", prompt="its own prompt")
        assert await encode(system, folder, "other", prompt="x", response_schema={"type": "boolean"})
        told = await figures(system)
        assert told["running"]["schema"] == JOB_LIMITS[JobKind.SCHEMA].processes_of_client
        assert told["waiting"]["schema"] == 10 - JOB_LIMITS[JobKind.SCHEMA].processes_of_client, "nobody else waits"
        nursery.cancel_scope.cancel()


async def test_jd10_endless_schemas_of_one_unnamed_program_leave_a_process_to_another(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    limits = {kind: attrs.evolve(one, processor_seconds=30.0) for kind, one in JOB_LIMITS.items()}
    async with sandbox_running(limits) as system, trio.open_nursery() as nursery:
        await opened(system, folder)
        await encode(system, folder, prompt="x", response_schema=DEEP)

        async def ask(caller: str, schema: dict[str, Any]) -> None:
            message = EncodePrompt(
                folder=folder,
                client_id="local",
                caller=caller,
                generate=Generate(prompt="x", response_schema=schema),
            )
            await reference(system).ask(message, timeout=PATIENCE_SECONDS)

        for number in range(10):
            nursery.start_soon(ask, "127.0.0.1:1", {**ENDLESS, "title": str(number)})
        with trio.fail_after(PATIENCE_SECONDS):
            while (await figures(system))["waiting"]["schema"] < 8:  # noqa: ASYNC110  nobody tells
                await trio.sleep(0.01)
        # The ten take minutes: this comes first or not at all.
        await ask("127.0.0.1:2", {"type": "boolean"})
        nursery.cancel_scope.cancel()


async def test_jd3_too_many_jobs_of_one_client_are_refused_and_not_kept(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    limits = short_limits(waiting_of_client=1, processes_of_client=1)
    async with sandbox_running(limits) as system, trio.open_nursery() as nursery:
        await opened(system, folder)
        outcomes: list[ErrorCode] = []

        async def ask(number: int) -> None:
            schema = {**ENDLESS, "title": str(number)}
            outcomes.append((await refusal(system, folder, prompt="x", response_schema=schema)).code)

        for number in range(5):
            nursery.start_soon(ask, number)
        with trio.fail_after(PATIENCE_SECONDS):
            while len(outcomes) < 5:  # noqa: ASYNC110  nobody tells
                await trio.sleep(0.01)
    assert sorted(one.value for one in outcomes) == ["invalid_field"] * 2 + ["overloaded"] * 3


# --- templates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["power", "loop", "memory"])
async def test_jd4_a_template_without_end_costs_its_own_question_alone(tmp_path: Path, content: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(NASTY_WHEN_ASKED)
    async with sandbox_running() as system:
        await opened(system, folder)
        refused = await refusal(system, folder, messages=said(content))
        assert (refused.code, refused.field) == (ErrorCode.INVALID_FIELD, "data.messages")
        assert "chat template" in refused.message
        assert await encode(system, folder, messages=said("hello"))


async def test_jd11_where_the_kernel_bounds_no_memory_the_fork_server_does(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(NASTY_WHEN_ASKED)
    limits = {
        kind: attrs.evolve(one, processor_seconds=60.0, memory_bytes=256 * 2**20) for kind, one in JOB_LIMITS.items()
    }
    async with sandbox_running(limits, watches_memory=True) as system:
        await opened(system, folder)
        server = (await processes(system))["server"]
        refused = await refusal(system, folder, messages=said("memory"))
        assert (refused.code, refused.field) == (ErrorCode.INVALID_FIELD, "data.messages")
        assert "takes too much memory (over 256 MiB)" in refused.message
        assert await encode(system, folder, messages=said("hello"))
        assert (await processes(system))["server"] == server


def test_jd11_a_process_is_aborted_only_beyond_what_it_may_hold_more_than_its_parent() -> None:
    with subprocess.Popen(["sleep", "60"]) as small, subprocess.Popen(["sleep", "60"]) as large:
        held = {os.getpid(): 100, small.pid: 149, large.pid: 151}
        watch = MemoryWatch(held.get)
        for child in (small, large):
            watch.began(child.pid, 50)
        assert watch.end_large() == [large.pid]
        assert large.wait(PATIENCE_SECONDS) == -signal.SIGABRT
        watch.ended(large.pid)
        assert len(watch) == 1
        assert watch.end_large() == []
        assert small.poll() is None
        small.kill()
    assert held_bytes(small.pid) is None
    assert (held_bytes(os.getpid()) or 0) > 2**20


@pytest.mark.parametrize("template", ["{% set n = 9**9 %}{{ 9**n }}", "{{ 9 ** (9 ** 9) }}"])
async def test_jd4_a_checkpoint_whose_template_never_ends_is_not_opened(tmp_path: Path, template: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    async with sandbox_running() as system:
        with pytest.raises(ModelRefused, match="template"):
            await opened(system, folder)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel bounds no process's memory elsewhere")
@pytest.mark.parametrize(
    "template", ["{{ 'a' * 6 * 10 ** 9 }}", "{{ '%9000000000d' % 1 }}", "{{ 'a' | center(9 * 10 ** 9) }}"]
)
async def test_jd14_what_a_template_computes_when_it_is_compiled_takes_bounded_memory(
    tmp_path: Path, template: str
) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    async with sandbox_running() as system:
        await opened(system, folder)
        assert peak_bytes((await processes(system))["server"][0]) < OPEN_MEMORY_BYTES
        refused = await refusal(system, folder, messages=said("hello"))
        assert refused.code is ErrorCode.INVALID_FIELD
        assert await encode(system, folder, prompt="hello")


# --- lives --------------------------------------------------------------------------------------------


async def test_jd5_what_kills_a_process_from_outside_costs_no_question(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    async with sandbox_running() as system:
        text = await opened(system, folder)
        expected = await encode(system, folder, prompt="hello")
        for whom in ("prompt", "server"):
            for pid in (await processes(system))[whom]:
                os.kill(pid, signal.SIGKILL)
            assert await encode(system, folder, prompt="hello") == expected
        crash(system, "sandbox", RuntimeError("on purpose"))
        assert await PromptEncoder(reference(system)).encode(text, Generate(prompt="hello")) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not count who waits for a processor")
async def test_jd15_a_fork_server_that_gets_no_processor_is_waited_for_and_not_ended() -> None:
    worker = await WorkerProcess.start(lambda _: [sys.executable, "-c", CROWDED])
    try:
        server, answered, waited = ForkServerProcess(None, worker, JOB_LIMITS), trio.Event(), RunQueueDelay(worker.pid)

        async def answer_after_waiting() -> None:
            await eventually(lambda: waited.seconds() >= 2.0)
            answered.set()

        waited.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_after_waiting)
            assert await server._heard(answered, 1.0), "a second that it had the processor has not passed"
        assert worker.process.returncode is None
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        await worker.end()


async def test_jd15_a_process_is_waited_for_as_long_as_the_grammars_that_are_being_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.inference.sandbox.fork_server.FORK_SECONDS", 2.0)
    monkeypatch.setattr("actors.inference.sandbox.fork_server.GRAMMARS_SECONDS", 2 * PATIENCE_SECONDS)
    released = tmp_path / "released"
    command = [sys.executable, "-c", SLOW_GRAMMARS, str(released), "--pipe"]
    worker = await WorkerProcess.start(lambda pipe: [*command, str(pipe)])
    server = ForkServerProcess(None, worker, JOB_LIMITS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        await server.open(PATIENCE_SECONDS)
        nursery.start_soon(server.load_grammars)
        while not server._loads_grammars:
            await trio.lowlevel.checkpoint()

        async def release() -> None:
            # Longer than the two seconds that a fork may take which waits for nothing.
            await trio.sleep(5.0)
            released.touch()

        nursery.start_soon(release)
        slot = await server.take_slot(JobKind.PROMPT)
        assert slot.pid
        assert released.exists(), "it was forked behind the grammars"
        server.put_back(slot)
        server.end()


async def test_jd15_a_fork_server_that_stands_still_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_text_folder(tmp_path / "model")
    async with sandbox_running() as system:
        await opened(system, folder)
        await encode(system, folder, prompt="hello", response_schema={"type": "boolean"})
        before = await processes(system)
        for slot in before["prompt"]:
            os.kill(slot, signal.SIGKILL)
        await until_gone(before["prompt"])
        os.kill(before["server"][0], signal.SIGSTOP)
        monkeypatch.setattr("actors.inference.sandbox.fork_server.FORK_SECONDS", 8.0)
        assert await encode(system, folder, prompt="hello")
        assert (await processes(system))["server"] != before["server"]
        await until_gone(before["server"])


async def test_jd15_a_fork_server_that_is_killed_while_it_loads_its_grammars_says_nothing_of_them(
    tmp_path: Path,
) -> None:
    folder = write_text_folder(tmp_path / "model")
    async with sandbox_running() as system:
        with structlog.testing.capture_logs() as lines:
            await opened(system, folder)
            pids = (await processes(system))["server"]
            os.kill(pids[0], signal.SIGKILL)
            await until_gone(pids)
            await encode(system, folder, prompt="hello", response_schema={"type": "boolean"})
    assert [one for one in lines if one["event"] == "no grammars"] == []


async def test_jd5_a_job_ends_with_its_fork_server_whatever_it_is_doing(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    limits = {kind: attrs.evolve(one, processor_seconds=60.0, wall_seconds=120.0) for kind, one in JOB_LIMITS.items()}
    async with sandbox_running(limits) as system, trio.open_nursery() as nursery:
        await opened(system, folder)
        nursery.start_soon(lambda: encode(system, folder, prompt="x", response_schema=ENDLESS))
        with trio.fail_after(PATIENCE_SECONDS):
            while not (pids := [one for one in (await processes(system))["schema"] if one]):  # noqa: ASYNC110
                await trio.sleep(0.01)
        os.kill((await processes(system))["server"][0], signal.SIGKILL)
        # Long before its own timers would end it.
        await until_gone(pids, seconds=20.0)
        nursery.cancel_scope.cancel()


async def test_jd5_a_question_that_is_taken_back_ends_the_process_that_works_on_it(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    limits = {kind: attrs.evolve(one, processor_seconds=600.0, wall_seconds=600.0) for kind, one in JOB_LIMITS.items()}
    async with sandbox_running(limits) as system:
        await opened(system, folder)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: encode(system, folder, prompt="x", response_schema=ENDLESS))
            with trio.fail_after(PATIENCE_SECONDS):
                while not (pids := [one for one in (await processes(system))["schema"] if one]):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await until_gone(pids)
        assert await encode(system, folder, prompt="x", response_schema=DEEP)


async def test_jd5_no_process_outlives_its_use_or_the_server(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    async with sandbox_running() as system:
        await opened(system, folder)
        pids = [pid for some in (await processes(system)).values() for pid in some]
        await reference(system).tell(SetOpenTexts(frozenset()))
        await until_gone(pids)
        assert await encode(system, folder, prompt="hello"), "it is opened again where it is needed again"
        last = [pid for some in (await processes(system)).values() for pid in some]
    await until_gone(last)


OWNER = """
import sys, trio
from pathlib import Path
from actors.inference.sandbox_messages import EncodePrompt
from protocol.commands import Generate
from tests.inference import test_sandbox as kit

async def main():
    limits = {kind: kit.attrs.evolve(one, processor_seconds=600.0, wall_seconds=600.0) for kind, one in kit.JOB_LIMITS.items()}
    async with kit.sandbox_running(limits) as system, trio.open_nursery() as nursery:
        folder = Path(sys.argv[1])
        await kit.opened(system, folder)
        nursery.start_soon(lambda: kit.encode(system, folder, prompt="x", response_schema=kit.ENDLESS))
        while not any((await kit.processes(system))["schema"]):
            await trio.sleep(0.01)
        print("processes", *[pid for some in (await kit.processes(system)).values() for pid in some], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_jd5_a_server_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    command = [sys.executable, "-c", OWNER, str(folder)]
    owner = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    try:
        with trio.fail_after(PATIENCE_SECONDS):
            said_so_far = b""
            while not (found := re.search(rb"processes ([0-9 ]+)\n", said_so_far)):
                said_so_far += await owner.stdout.receive_some()
        pids = [int(word) for word in found[1].split()]
        assert len(pids) >= 3
        assert all(is_alive(pid) for pid in pids)
    finally:
        owner.kill()
        with trio.move_on_after(PATIENCE_SECONDS, shield=True):
            await owner.wait()
        await trio.aclose_forcefully(owner.stdout)
    await until_gone(pids)


async def test_jd8_a_process_that_one_job_made_large_ends_after_it(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    async with sandbox_running(dict(JOB_LIMITS)) as system:
        await opened(system, folder)
        await encode(system, folder, prompt="hello")
        before = (await processes(system))["prompt"]
        assert len(await encode(system, folder, prompt="hello " * 100_000)) > 100_000
        await until_gone(before)
        assert await encode(system, folder, prompt="hello")
        assert (await processes(system))["prompt"] != before


async def test_jd8_memory_is_that_of_all_processes_with_shared_pages_once(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    alone = family_bytes(os.getpid())
    assert alone is not None
    async with sandbox_running() as system:
        await opened(system, folder)
        await encode(system, folder, prompt="x", response_schema=DEEP)
        pids = [pid for some in (await processes(system)).values() for pid in some]
        assert len(pids) == 3
        parts = [family_bytes(pid) or 0.0 for pid in pids]
        assert all(part > 1e6 for part in parts)
        memory = FamilyMemory()
        assert (await memory.measure() or 0) >= alone + 0.8 * max(parts)
        assert parts[0] > parts[1] + parts[2], "the fork server's is that of what it forked too"


async def test_what_will_be_asked_for_is_opened_before_it_is(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    spec = ChildSpec(id="sandbox", start=lambda: Sandbox(opens_first=folder))
    async with running(SupervisorSpec(children=(spec,))) as system:
        with trio.fail_after(PATIENCE_SECONDS):
            while not (await figures(system))["fork_servers"]:  # noqa: ASYNC110  nobody tells
                await trio.sleep(0.01)
        first = (await processes(system))["server"]
        assert (await opened(system, folder)).context_tokens == 512
        assert (await processes(system))["server"] == first
