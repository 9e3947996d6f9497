"""A wrong message to a reference is an error of the type checker."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

TOP = Path(__file__).resolve().parents[2]
PROGRAM = """
from attrs import frozen

from runtime import ActorRef, ActorSystem, Request


@frozen
class Stop:
    pass


@frozen
class Count(Request[int]):
    pass


@frozen
class Other:
    pass


@frozen
class OtherCount(Request[int]):
    pass


async def use(system: ActorSystem) -> int:
    counter: ActorRef[Count | Stop] = system.reference("counter")
    either: Count | OtherCount = Count() if counter.is_running else OtherCount()
    await counter.tell(Stop())
    counter.tell_nowait(Stop())
    await counter.tell(Other())  # wrong
    counter.tell_nowait(Other())  # wrong
    await counter.ask(OtherCount(), timeout=1)  # wrong
    await counter.ask(either, timeout=1)  # wrong
    narrower: ActorRef[Stop] = counter
    wider: ActorRef[Count | Stop | Other] = counter  # wrong
    text: str = await counter.ask(Count(), timeout=1)  # wrong
    return await counter.ask(Count(), timeout=1)
"""


def test_in4_a_wrong_message_is_an_error_of_the_type_checker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    settings = tmp_path / "mypy.ini"
    settings.write_text(f"[mypy]\nplugins = {TOP / 'scripts/mypy_plugin.py'}\nmypy_path = {TOP}\n")
    report, problem, _ = api.run(["--config-file", str(settings), "--cache-dir", str(tmp_path / "cache"), str(program)])
    assert not problem
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", report)}
    assert found == {at for at, line in enumerate(PROGRAM.split("\n"), 1) if "# wrong" in line}, report
