"""Streams in the inference service: subscribers, detachment, commands that come twice, and restarts with a real database."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
import trio
from sqlalchemy.engine import URL

from actors.errors import CommandError
from actors.inference.messages import (
    GenerationCancelled,
    GenerationDone,
    GenerationEnded,
    GenerationEvent,
    GenerationFailed,
    GenerationStarted,
    GenerationTokens,
    StartGeneration,
    UnsubscribeStream,
)
from actors.storage.messages import IdempotencyKey
from protocol.commands import Generate, OnDisconnect
from protocol.errors import ErrorCode
from protocol.events import Done
from runtime.inspection import suspend
from runtime.testing import crash
from tests.inference.service_kit import InferenceService, inference_service

pytestmark = pytest.mark.integration


def counted(number: int) -> str:
    return " ".join(str(one) for one in range(1, number + 1))


def key(command: str = "c", digest: str = "d") -> IdempotencyKey:
    return IdempotencyKey(client_id="client", device_id="default", command_id=command, digest=digest)


async def ask_to_start(service: InferenceService, stream: str, prompt: str, **fields: Any) -> GenerationStarted:
    request = {name: fields.pop(name) for name in ("key", "subscriber") if name in fields}
    return await service.inference.ask(
        StartGeneration(client_id="client", stream=stream, generate=Generate(prompt=prompt, **fields), **request),
        timeout=20,
    )


async def leaves(service: InferenceService, name: str) -> None:
    await service.subscribers.stop_child(name)


async def whole(
    service: InferenceService, stream: str, subscriber: Any, *, client: str = "client", epoch: str | None = None
) -> str:
    """The text of a stream by pages, until its end."""
    text, at = "", 0
    with trio.fail_after(60):
        while True:
            followed = await service.subscribe(stream, subscriber, after=at, client=client, epoch=epoch)
            assert followed.resumed
            for event in followed.events:
                at = event.seq
                if not isinstance(event, GenerationTokens):
                    return text
                text += event.text
            if not followed.events:
                await trio.sleep(0.01)


async def test_two_followers_get_the_same_stream_and_the_first_may_leave() -> None:
    async with inference_service(step_seconds=0.002) as service:
        first = await service.new_follower("first")
        stream = await service.start("count to 40", subscriber=first)
        await service.tokens(stream, 5)
        second_events: list[GenerationEvent] = []
        second = await service.new_follower("second")
        followed = await service.subscribe(stream, second)
        assert followed.resumed
        assert followed.is_live
        second_events += followed.events
        service.events[stream].clear()
        await leaves(service, "first")
        await service.last(stream)
        texts = [one.text for one in second_events + service.events[stream] if isinstance(one, GenerationTokens)]
        assert counted(40).endswith(
            "".join(one.text for one in service.events[stream] if isinstance(one, GenerationTokens))
        )
        assert "".join(texts).startswith(counted(40)[:5])
        assert isinstance(service.events[stream][-1], GenerationDone)


async def test_when_the_last_follower_leaves_the_row_is_freed_and_the_stream_says_cancelled() -> None:
    async with inference_service(step_seconds=0.002) as service:
        one = await service.new_follower("one")
        stream = await service.start("count to 1000", subscriber=one, max_tokens=4000)
        await service.tokens(stream, 3)
        await leaves(service, "one")
        await service.until_health(lambda health: health.running == 0)
        other = await service.new_follower("other")
        followed = await service.subscribe(stream, other, epoch="another")
        assert followed.snapshot is not None
        assert followed.snapshot.state == "cancelled"
        assert isinstance(followed.events[-1], GenerationCancelled)


async def test_one_that_waits_in_the_queue_leaves_it_with_its_follower() -> None:
    async with inference_service(is_ready=False, engine="mock") as service:
        one = await service.new_follower("one")
        await service.start("count to 5", subscriber=one)
        await leaves(service, "one")
        await service.until_health(lambda health: health.queue_depth == 0 and health.running == 0)


async def test_unfollowing_is_as_leaving() -> None:
    async with inference_service(step_seconds=0.002) as service:
        one = await service.new_follower("one")
        stream = await service.start("count to 1000", subscriber=one, max_tokens=4000)
        assert await service.inference.ask(UnsubscribeStream(stream=stream, subscriber=one), timeout=60)
        assert not await service.inference.ask(UnsubscribeStream(stream=stream, subscriber=one), timeout=60)
        await service.until_health(lambda health: health.running == 0)


async def test_a_detached_stream_runs_on_and_is_whole_for_who_comes_back() -> None:
    async with inference_service(step_seconds=0.001) as service:
        one = await service.new_follower("one")
        stream = await service.start("count to 50", subscriber=one, on_disconnect=OnDisconnect.DETACH)
        await service.tokens(stream, 3)
        await leaves(service, "one")
        two = await service.new_follower("two")
        assert await whole(service, stream, two) == counted(50)


async def test_a_detached_stream_that_nobody_comes_back_for_is_cancelled() -> None:
    async with inference_service(step_seconds=0.002, detach_seconds=0.1) as service:
        one = await service.new_follower("one")
        stream = await service.start(
            "count to 1000", subscriber=one, max_tokens=4000, on_disconnect=OnDisconnect.DETACH
        )
        await leaves(service, "one")
        await service.until_health(lambda health: health.running == 0)
        assert service.outcomes()["abandoned"] == 1
        two = await service.new_follower("two")
        followed = await service.subscribe(stream, two, epoch="another")
        assert followed.snapshot is not None
        assert followed.snapshot.state == "cancelled"


async def test_an_observer_is_told_of_the_end_and_does_not_keep_a_stream_alive() -> None:
    async with inference_service(step_seconds=0.001) as service:
        ended: list[GenerationEnded] = []
        heard = trio.Event()

        def note(event: Any) -> None:
            ended.append(event)
            heard.set()

        service.note = note  # type: ignore[method-assign]
        observer = await service.new_follower("observer")
        listened: list[GenerationEvent] = []
        await service.start(
            "count to 5",
            stream="s",
            subscriber=listened.append,
            observer=observer,
            completion_fields=lambda text, done: {"length": len(text), "seed": done.seed},
            seed=7,
        )
        with trio.fail_after(60):
            await heard.wait()
        (end,) = ended
        assert (end.stream, end.client_id, end.text, end.code) == ("s", "client", counted(5), None)
        assert isinstance(end.done, Done)
        assert isinstance(listened[-1], GenerationDone)
        assert listened[-1].fields == {"length": len(counted(5)), "seed": 7}


async def test_completion_fields_that_raise_fail_their_own_stream_alone() -> None:
    def broken(_: str, __: Done) -> dict[str, Any]:
        raise ZeroDivisionError

    async with inference_service() as service:
        stream = await service.start("count to 5", completion_fields=broken)
        assert (await service.failure(stream)).code is ErrorCode.INTERNAL
        assert await service.answer(await service.start("count to 5")) == counted(5)


async def test_a_stream_of_another_client_is_as_if_it_did_not_exist() -> None:
    async with inference_service(step_seconds=0.002) as service:
        stream = await service.start("count to 100")
        other = await service.new_follower("other")
        theirs = await service.subscribe(stream, other, client="somebody")
        nobodys = await service.subscribe("no-such", other, client="somebody")
        assert theirs.snapshot is not None
        assert theirs.snapshot.state == "unavailable"
        assert (theirs.resumed, theirs.epoch, theirs.head, theirs.snapshot, theirs.key) == (
            nobodys.resumed,
            nobodys.epoch,
            nobodys.head,
            nobodys.snapshot,
            nobodys.key,
        )


# --- with a database ----------------------------------------------------------------------------------


async def test_p2_the_same_command_joins_its_stream_and_another_is_a_conflict(database: URL) -> None:
    async with inference_service(step_seconds=0.002, database=database) as service:
        first = await ask_to_start(service, "a", "count to 60", key=key(), subscriber=service.subscriber)
        again = await ask_to_start(service, "b", "count to 60", key=key(), subscriber=service.subscriber)
        assert (first.is_repeat, again.is_repeat) == (False, True)
        assert (again.stream, again.seed, again.epoch) == ("a", first.seed, first.epoch)
        with pytest.raises(CommandError) as caught:
            await ask_to_start(service, "c", "count to 61", key=key(digest="other"), subscriber=service.subscriber)
        assert (caught.value.code, caught.value.field) == (ErrorCode.CONFLICT, "id")
        assert await service.answer("a") == counted(60)
        # Over, and still joined from its first event.
        late = await ask_to_start(service, "d", "count to 60", key=key())
        assert await whole(service, late.stream, service.subscriber) == counted(60)
        assert service.outcomes() == {"stop": 1}


async def test_p2_the_same_command_twice_at_once_is_carried_out_once(database: URL) -> None:
    async with inference_service(step_seconds=0.001, database=database) as service:
        answers: list[GenerationStarted] = []

        async def ask(name: str) -> None:
            answers.append(await ask_to_start(service, name, "count to 30", key=key(), subscriber=service.subscriber))

        async with trio.open_nursery() as nursery:
            for name in "abcdef":
                nursery.start_soon(ask, name)
        assert len({one.stream for one in answers}) == 1
        assert sorted(one.is_repeat for one in answers) == [False] + [True] * 5
        await service.answer(answers[0].stream)
        assert service.outcomes() == {"stop": 1}


async def test_p2_what_was_refused_is_not_kept(database: URL) -> None:
    async with inference_service(database=database) as service:
        with pytest.raises(CommandError):
            await ask_to_start(service, "a", "x" * 200_000, key=key())
        started = await ask_to_start(service, "b", "count to 5", key=key(), subscriber=service.subscriber)
        assert started.is_repeat is False
        assert await service.answer("b") == counted(5)


async def test_p2_a_stream_lost_by_a_restart_is_accepted_again_and_has_failed(database: URL) -> None:
    async with inference_service(step_seconds=0.01, database=database, drain_seconds=0.0) as service:
        first = await ask_to_start(service, "a", "count to 60", key=key(), subscriber=service.subscriber)
    async with inference_service(database=database) as service:
        again = await ask_to_start(service, "b", "count to 60", key=key())
        assert (again.stream, again.is_repeat) == ("a", True)
        assert again.epoch != first.epoch
        followed = await service.subscribe("a", service.subscriber, epoch=again.epoch)
        (last,) = followed.events
        assert isinstance(last, GenerationFailed)
        assert (last.seq, last.code) == (1, ErrorCode.UNAVAILABLE)


async def test_p4_a_detached_generation_goes_on_after_a_restart_under_a_new_epoch(database: URL) -> None:
    async with inference_service(step_seconds=0.02, database=database, drain_seconds=0.0) as service:
        first = await ask_to_start(
            service,
            "a",
            "count to 40",
            temperature=0.7,
            key=key(),
            subscriber=service.subscriber,
            on_disconnect=OnDisconnect.DETACH,
        )
        await service.tokens("a", 5)
    async with inference_service(is_ready=False, database=database) as service:
        followed = await service.subscribe("a", service.subscriber, epoch=first.epoch, after=5)
        assert followed.resumed is False
        assert followed.epoch != first.epoch
        assert followed.snapshot is not None
        assert followed.key == key()
        before = followed.snapshot.text + "".join(
            one.text for one in followed.events if isinstance(one, GenerationTokens)
        )
        last = await service.last("a")
        assert isinstance(last, GenerationDone)
        assert last.done.seed == first.seed
        assert before + service.text("a") == counted(40)
        joined = await ask_to_start(service, "b", "count to 40", key=key())
        assert (joined.stream, joined.is_repeat, joined.epoch) == ("a", True, followed.epoch)
    # It has ended: another restart has it whole, and does not make it again.
    async with inference_service(database=database) as service:
        followed = await service.subscribe("a", service.subscriber, epoch=joined.epoch, after=2)
        assert followed.snapshot is not None
        assert (followed.snapshot.text, followed.snapshot.state) == (counted(40), "done")
        (end,) = followed.events
        assert isinstance(end, GenerationDone)
        assert (end.done.seed, end.done.usage) == (first.seed, last.done.usage)
        assert service.outcomes() == {}


async def test_a_detached_generation_without_follower_survives_the_inference_actor(database: URL) -> None:
    async with inference_service(step_seconds=0.003, database=database) as service:
        one = await service.new_follower("one")
        first = await ask_to_start(
            service, "a", "count to 40", key=key(), subscriber=one, on_disconnect=OnDisconnect.DETACH
        )
        await leaves(service, "one")
        crash(service.system, "inference/inference", RuntimeError("lost on purpose"))
        with trio.fail_after(60):
            while service.inference.incarnation < 2 or not service.inference.is_running:  # noqa: ASYNC110  being started
                await trio.sleep(0.01)
        followed = await service.subscribe("a", service.subscriber, epoch=first.epoch, after=0)
        assert followed.resumed is False
        assert followed.snapshot is not None
        assert followed.snapshot.state == "running"
        assert await whole(service, "a", service.subscriber) == counted(40)


async def test_a_detached_generation_that_nobody_comes_back_for_after_a_restart_is_cancelled(database: URL) -> None:
    async with inference_service(step_seconds=0.005, database=database, drain_seconds=0.0) as service:
        await ask_to_start(
            service,
            "a",
            "count to 900",
            max_tokens=4000,
            subscriber=service.subscriber,
            on_disconnect=OnDisconnect.DETACH,
        )
        await service.tokens("a", 2)
    async with inference_service(step_seconds=0.005, database=database, detach_seconds=0.2) as service:
        with trio.fail_after(60):
            while service.outcomes() != {"abandoned": 1}:  # noqa: ASYNC110  figures are asked for, never told
                await trio.sleep(0.02)


async def test_a_follower_that_takes_nothing_is_complained_of_once() -> None:
    async with inference_service() as service:
        deaf = await service.new_follower("deaf")
        suspend(service.system, deaf.path, suspended=True)
        with structlog.testing.capture_logs() as lines:
            await ask_to_start(service, "s", "count to 900", max_tokens=4000, subscriber=deaf)
            await service.until_health(lambda health: health.running == 0)
        said = [line for line in lines if line["event"] == "subscriber overrun"]
        assert [(line["subscriber"], line["stream"]) for line in said] == [(deaf.path, "s")]
