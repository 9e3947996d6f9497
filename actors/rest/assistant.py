"""Routes of the assistant that answer in one piece, with the bodies they take."""

from __future__ import annotations

import re
import secrets
from typing import Any

import attrs
from attrs import field, frozen
from quart import jsonify, request
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.assistant.messages import AnswerTurn, TurnAnswer
from actors.errors import CommandError
from actors.rest.services import Services, body_as, caller, identity
from protocol.codec import unstructure
from protocol.commands import MAXIMUM_FRAME_BYTES, Assist, ChatMessage, Generate, Intent, Role
from protocol.errors import ErrorCode, InvalidField
from protocol.events import AnswerDefaults
from protocol.programming_languages import known_language
from protocol.validation import FieldFault, between, client_name, length, one_of, plain_text, readable_text

__all__ = [
    "CompleteRequest",
    "ProcessRequest",
    "assist_of",
    "command_of",
    "register_assistant",
    "rest_field",
    "without_repeated",
]

ANSWER_SECONDS = 600.0
"""Deadline for a whole answer. A client that wants less closes its connection."""
SERVICE_SECONDS = 10.0
SEED_BITS = 53
COMMAND_FIELDS = ("intent", "file_path", "language", "cursor")
MESSAGE_FIELDS = ("temperature", "top_p", "repetition_penalty", "seed")


LINES_LOOKED_AT = 200
"""Lines before the cursor that are searched for a repetition."""


def register_assistant(app: QuartTrio, services: Services) -> None:
    """Register `/ai/process` and `/ai/complete`."""

    async def answer(who: Identity, data: Assist | Generate, max_tokens: int | None) -> TurnAnswer:
        if "Idempotency-Key" in request.headers:
            # Answers are not idempotent: a repeated request gets a new answer, and ignoring the header would suggest
            # otherwise.
            raise CommandError(
                ErrorCode.INVALID_FIELD, "this route does not accept Idempotency-Key", field="Idempotency-Key"
            )
        turn = AnswerTurn(client_id=who.client_id, data=data, max_tokens=max_tokens, domain=who.domain, caller=caller())
        try:
            return await services.assistant.ask(turn, timeout=ANSWER_SECONDS)
        except CommandError as refusal:
            raise CommandError(
                refusal.code,
                refusal.message,
                field=rest_field(refusal.field),
                retry_after_ms=refusal.retry_after_ms,
                current=refusal.current,
            ) from None

    @app.post("/ai/process")
    async def process() -> Any:
        wanted: ProcessRequest = await body_as(ProcessRequest)
        data = command_of(wanted, services.answer_defaults)
        if isinstance(data, Generate) and data.seed is None:
            data = attrs.evolve(data, seed=secrets.randbits(SEED_BITS))
        answered = await answer(await identity(services), data, wanted.max_tokens)
        return jsonify({"type": wanted.type, **_body(answered)})

    @app.post("/ai/complete")
    async def complete() -> Any:
        wanted: CompleteRequest = await body_as(CompleteRequest)
        answered = await answer(await identity(services), assist_of(wanted), wanted.max_tokens)
        blocks = answered.fields["suggestions"]
        said = blocks[0]["code"] if blocks else answered.text
        before = wanted.content if wanted.cursor is None else wanted.content[: wanted.cursor]
        if wanted.intent is Intent.SUGGEST:
            # Answers to other intents repeat code on purpose, changed or quoted.
            said = without_repeated(said, before)
        return jsonify({"completion": said, **_body(answered)})


def _body(answered: TurnAnswer) -> dict[str, Any]:
    return {"content": answered.text, **unstructure(answered.done), **answered.fields}


@frozen(kw_only=True)
class ProcessRequest:
    """Body of `POST /ai/process`."""

    type: str = field(validator=one_of("message", "command"))
    """`message` is a chat message, `command` an intent on code."""
    content: str = field(validator=[length(1, MAXIMUM_FRAME_BYTES, "characters"), readable_text], repr=False)
    intent: Intent | None = None
    """Commands only."""
    file_path: str | None = field(default=None, validator=[length(1, 1024, "characters"), plain_text])
    """Commands only. A name shown to the model; the file is never opened."""
    language: str | None = field(default=None, validator=known_language)
    """Commands only."""
    cursor: int | None = field(default=None, validator=between(0, MAXIMUM_FRAME_BYTES))
    """Commands only. Offset into `content`, in characters."""
    conversation: str | None = field(default=None, validator=client_name)
    """Continue a stored conversation, or begin one with this name."""
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))
    temperature: float | None = field(default=None, validator=between(0, 5))
    """Messages only. Defaults to the server's `answer_temperature`; the next two have server defaults likewise."""
    top_p: float | None = field(default=None, validator=between(1e-6, 1))
    repetition_penalty: float | None = field(default=None, validator=between(0.1, 10))
    seed: int | None = field(default=None, validator=between(0, 2**53))
    """Messages only."""

    def __attrs_post_init__(self) -> None:
        if self.type == "command" and self.intent is None:
            raise FieldFault("intent", "is missing: it is required for a command")
        for name in COMMAND_FIELDS if self.type == "message" else MESSAGE_FIELDS:
            if getattr(self, name) is not None:
                raise FieldFault(name, f"is not a field of a {self.type}")


@frozen(kw_only=True)
class CompleteRequest:
    """Body of `POST /ai/complete`: code and the position to complete."""

    content: str = field(validator=[length(1, MAXIMUM_FRAME_BYTES, "characters"), readable_text], repr=False)
    cursor: int | None = field(default=None, validator=between(0, MAXIMUM_FRAME_BYTES))
    """Offset into `content`, in characters; defaults to its end."""
    file_path: str | None = field(default=None, validator=[length(1, 1024, "characters"), plain_text])
    language: str | None = field(default=None, validator=known_language)
    intent: Intent = Intent.SUGGEST
    conversation: str | None = field(default=None, validator=client_name)
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))


def command_of(request: ProcessRequest, defaults: AnswerDefaults) -> Assist | Generate:
    """Convert a request to the assistant's command; ``defaults`` apply to messages. Raises `InvalidField`."""
    if request.type == "command":
        assert request.intent is not None
        return _assist(request, request.intent, request.cursor)
    return Generate(
        messages=[ChatMessage(Role.USER, request.content)],
        max_tokens=request.max_tokens,
        max_tokens_if_room=defaults.max_tokens,
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        repetition_penalty=(
            defaults.repetition_penalty if request.repetition_penalty is None else request.repetition_penalty
        ),
        seed=request.seed,
        conversation=request.conversation,
    )


def assist_of(request: CompleteRequest) -> Assist:
    """Convert a request to the assistant's command. Raises `InvalidField`."""
    cursor = request.cursor
    if cursor is None and request.intent is Intent.SUGGEST:
        cursor = len(request.content)
    return _assist(request, request.intent, cursor)


def without_repeated(said: str, before: str) -> str:
    """Strip from a completion the text before the cursor, since models tend to repeat whole lines of it.

    A repetition begins at the start of a line and reaches the cursor, or the spaces in front of it. A single repeated
    word is kept, because it may be intended (`end`).
    """
    for kept in (before, before.rstrip()):
        spaces = before[len(kept) :]
        starts = [0, *(found.end() for found in re.finditer("\n", kept))] if kept.strip() else []
        for start in starts[-LINES_LOOKED_AT:] if len(starts) > LINES_LOOKED_AT else starts:
            repeated = kept[start:]
            if re.search(r"\w\W+\w", repeated.strip()) and said.startswith(repeated):
                rest = said[len(repeated) :]
                return rest.removeprefix(spaces) if rest.startswith(spaces) else rest.lstrip()
    return said


def rest_field(name: str | None) -> str | None:
    """Translate a field of the assistant's command to the field of the request's body."""
    if name is None or not name.startswith("data."):
        return name
    path = name.removeprefix("data.")
    # The single message, or the prompt, is the body's content.
    return "body.content" if path.partition("[")[0] in ("messages", "prompt") else f"body.{path}"


def _assist(request: Any, intent: Intent, cursor: int | None) -> Assist:
    names = {one.name for one in attrs.fields(Assist)} & {one.name for one in attrs.fields(type(request))}
    fields = {name: getattr(request, name) for name in names}
    try:
        return Assist(**{**fields, "intent": intent, "cursor": cursor})
    except FieldFault as fault:
        raise InvalidField(f"body.{fault.path} {fault.problem}", field=f"body.{fault.path}") from None
