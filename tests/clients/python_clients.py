"""Stock clients for Python, as they come: each streams, leaves a stream (which cancels), calls a tool, follows a schema, meets a full context.

Run by `scripts/test_clients` in an environment of their own, against a server with the mock engine: `python_clients.py BASE MODEL`.
Prints a line for each client and thing; exits with 1 where one failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import openai
from pydantic import BaseModel

BASE, MODEL = sys.argv[1], sys.argv[2]
ENCODER = "all-minilm-l6-v2"
"""Fetched by the first request where it is not there."""
KEY = "unused"
COUNTED = " ".join(str(one) for one in range(1, 13))
LONG = "word " * 9000
ENDLESS = "count to 9000"
"""Fills the context: an answer that is still being made when its client leaves."""
PATIENCE_SECONDS = 60.0


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def look(city: str) -> str:
    """Look out of the window of a city."""
    return f"Rain in {city}."


LOOK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look out of the window",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def check(is_right: bool, seen: object) -> None:
    if not is_right:
        raise AssertionError(repr(seen)[:500])


def cancelled() -> int:
    """How many answers were cancelled since the server started."""
    with urllib.request.urlopen(f"{BASE.removesuffix('/v1')}/health/mlx", timeout=PATIENCE_SECONDS) as answer:
        return int(json.load(answer)["requests"].get("cancelled", 0))


@contextlib.contextmanager
def cancelling() -> Iterator[None]:
    """Expects that what is asked within ends as a cancelled answer."""
    before = cancelled()
    yield
    gives_up_at = time.monotonic() + PATIENCE_SECONDS
    while cancelled() == before:
        if time.monotonic() > gives_up_at:
            raise AssertionError("the answer went on without its client")
        time.sleep(0.05)


# --- openai -----------------------------------------------------------------------------------------

native = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)


def openai_streams() -> None:
    chunks = native.chat.completions.create(model=MODEL, messages=user("count to 12"), stream=True)
    text = "".join(one.choices[0].delta.content or "" for one in chunks)
    check(text == COUNTED, text)


def openai_leaves() -> None:
    with cancelling(), native.chat.completions.create(model=MODEL, messages=user(ENDLESS), stream=True) as stream:
        next(iter(stream))


def openai_calls() -> None:
    answer = native.chat.completions.create(model=MODEL, messages=user("hi"), tools=[LOOK], tool_choice="required")
    message = answer.choices[0].message
    call = message.tool_calls[0]
    check("city" in json.loads(call.function.arguments), call)
    history = [*user("hi"), message, {"role": "tool", "tool_call_id": call.id, "name": "look", "content": "Rain."}]
    after = native.chat.completions.create(model=MODEL, messages=history, tools=[LOOK])
    check(after.choices[0].message.content == "You said: Rain.", after)


def openai_follows() -> None:
    parsed = native.chat.completions.parse(model=MODEL, messages=user("hi"), response_format=Person)
    check(isinstance(parsed.choices[0].message.parsed, Person), parsed)


def openai_embeds() -> None:
    told = native.embeddings.create(model=ENCODER, input=["a man eats", "somebody is eating", "the moon"])
    one, two, moon = (made.embedding for made in told.data)
    check(sum(map(float.__mul__, one, two)) > 0.5 > 0.2 > sum(map(float.__mul__, one, moon)), told.usage)


def openai_is_full() -> None:
    try:
        native.chat.completions.create(model=MODEL, messages=user(LONG))
    except openai.BadRequestError as error:
        check(error.code == "context_length_exceeded", error.body)
    else:
        raise AssertionError("a prompt beyond the context was answered")


# --- openai, responses ------------------------------------------------------------------------------


def responses_streams() -> None:
    with native.responses.stream(model=MODEL, input="count to 12") as stream:
        text = "".join(one.delta for one in stream if one.type == "response.output_text.delta")
        check(text == COUNTED == stream.get_final_response().output_text, text)


def responses_leaves_and_reads_on() -> None:
    with native.responses.create(model=MODEL, input="count to 300", stream=True) as stream:
        events = [next(stream) for _ in range(6)]
    name = events[0].response.id
    with native.responses.retrieve(name, stream=True, starting_after=events[-1].sequence_number) as stream:
        events += stream
    check([one.sequence_number for one in events] == list(range(len(events))), name)
    check(events[-1].response.output_text == " ".join(map(str, range(1, 301))), events[-1])


def responses_cancels() -> None:
    with cancelling():
        made = native.responses.create(model=MODEL, input=ENDLESS, background=True)
        check(made.status == "queued", made)
        with native.responses.retrieve(made.id, stream=True) as stream:
            while next(stream).type != "response.output_text.delta":
                pass
        ended = native.responses.cancel(made.id)
        check(ended.status == "cancelled", ended)


def responses_calls() -> None:
    tools: Any = [{"type": "function", "strict": True, **LOOK["function"]}]
    asked: Any = {"model": MODEL, "tools": tools}
    first = native.responses.create(input="hi", tool_choice="required", **asked)
    (call,) = [one for one in first.output if one.type == "function_call"]
    check("city" in json.loads(call.arguments), call)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    after = native.responses.create(input=[result], previous_response_id=first.id, **asked)
    check(after.output_text == "You said: Rain.", after)


def responses_follows() -> None:
    parsed = native.responses.parse(model=MODEL, input="hi", text_format=Person)
    check(isinstance(parsed.output_parsed, Person), parsed)


def responses_is_full() -> None:
    try:
        native.responses.create(model=MODEL, input=LONG)
    except openai.BadRequestError as error:
        check(error.code == "context_length_exceeded" and error.param == "input", error.body)
    else:
        raise AssertionError("a prompt beyond the context was answered")


# --- anthropic --------------------------------------------------------------------------------------


def claude() -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=BASE.removesuffix("/v1"), api_key=KEY, max_retries=0)


ANTHROPIC_LOOK = {"name": "look", "input_schema": LOOK["function"]["parameters"]}


def anthropic_streams() -> None:
    with claude().messages.stream(model=MODEL, max_tokens=500, messages=user("count to 12")) as stream:
        text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage
    check(text == COUNTED, text)
    counted = claude().messages.count_tokens(model=MODEL, messages=user("count to 12"))
    check(counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens, (counted, usage))


def anthropic_leaves() -> None:
    fields: Any = {"model": MODEL, "max_tokens": 8000, "messages": user(ENDLESS)}
    with cancelling(), claude().messages.stream(**fields) as stream:
        next(iter(stream.text_stream))


def anthropic_calls() -> None:
    fields: Any = {"model": MODEL, "max_tokens": 500, "tools": [ANTHROPIC_LOOK]}
    answer = claude().messages.create(messages=user("hi"), tool_choice={"type": "any"}, **fields)
    (call,) = answer.content
    check("city" in call.input and answer.stop_reason == "tool_use", answer)
    with claude().messages.stream(
        messages=user("hi"), tool_choice={"type": "tool", "name": "look"}, **fields
    ) as stream:
        check("city" in stream.get_final_message().content[0].input, stream)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Rain."}
    history = [*user("hi"), {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    after = claude().messages.create(messages=history, **fields)
    check(after.content[0].text == "You said: Rain.", after)


def anthropic_reads_what_models_write() -> None:
    """It parses arguments while they stream, and raises where they are no JSON."""
    broken = '<tool_call>{"name": "look", "arguments": {"city": Bonn}}</tool_call>'
    with claude().messages.stream(model=MODEL, max_tokens=500, messages=user(broken), tools=[ANTHROPIC_LOOK]) as stream:
        (call,) = [one for one in stream.get_final_message().content if one.type == "tool_use"]
    check(isinstance(call.input, dict), call)


def anthropic_follows() -> None:
    parsed = claude().messages.parse(model=MODEL, max_tokens=500, messages=user("hi"), output_format=Person)
    check(isinstance(parsed.parsed_output, Person), parsed)


def anthropic_is_full() -> None:
    import anthropic

    try:
        claude().messages.create(model=MODEL, max_tokens=5, messages=user(LONG))
    except anthropic.BadRequestError as error:
        check("prompt is too long" in str(error), error.body)
    else:
        raise AssertionError("a prompt beyond the context was answered")


# --- ollama -----------------------------------------------------------------------------------------


def llama() -> Any:
    import ollama

    return ollama.Client(host=BASE.removesuffix("/v1"))


def ollama_streams() -> None:
    # The encoder is listed as well once it has been asked.
    name = next(one.model for one in llama().ps().models if MODEL in str(one.model))
    text = "".join(one.message.content for one in llama().chat(model=name, messages=user("count to 12"), stream=True))
    check(text == COUNTED, text)
    check(llama().generate(model=MODEL, prompt="count to 12").response == COUNTED, name)
    shown = llama().show(MODEL).modelinfo
    check(shown[f"{shown['general.architecture']}.context_length"] > 0, shown)


def ollama_leaves() -> None:
    with cancelling():
        stream = llama().chat(model=MODEL, messages=user(ENDLESS), stream=True)
        next(stream)
        stream.close()


def ollama_calls() -> None:
    call = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'
    answer = llama().chat(model=MODEL, messages=user(call), tools=[look]).message
    check(answer.tool_calls[0].function.arguments == {"city": "Bonn"}, answer)
    history = [*user(call), answer, {"role": "tool", "tool_name": "look", "content": "Rain."}]
    check(llama().chat(model=MODEL, messages=history, tools=[look]).message.content == "You said: Rain.", answer)


def ollama_follows() -> None:
    answer = llama().chat(model=MODEL, messages=user("hi"), format=Person.model_json_schema())
    Person.model_validate_json(answer.message.content)


def ollama_is_full() -> None:
    import ollama

    try:
        llama().chat(model=MODEL, messages=user(LONG))
    except ollama.ResponseError as error:
        check(error.status_code == 400 and "maximum context length" in error.error, error)
    else:
        raise AssertionError("a prompt beyond the context was answered")


def ollama_embeds() -> None:
    told = llama().embed(model="all-minilm", input=["a man eats", "somebody is eating"])
    check([len(one) for one in told["embeddings"]] == [384, 384], told)
    check(len(llama().embeddings(model="all-minilm", prompt="a man eats")["embedding"]) == 384, told)
    check("embedding" in llama().show("all-minilm").capabilities, "capabilities")


# --- LangChain --------------------------------------------------------------------------------------


def chain(**fields: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, max_retries=0, **fields)


def langchain_embeds() -> None:
    from langchain_openai import OpenAIEmbeddings

    # Otherwise it sends token ids of OpenAI's own vocabulary.
    made = OpenAIEmbeddings(
        model=ENCODER, base_url=BASE, api_key=KEY, check_embedding_ctx_length=False, dimensions=64, max_retries=0
    )
    check([len(one) for one in made.embed_documents(["a man eats", "somebody is eating"])] == [64, 64], "documents")
    check(len(made.embed_query("who eats?")) == 64, "a query")


def langchain_streams() -> None:
    text = "".join(one.content for one in chain().stream("count to 12"))
    check(text == COUNTED, text)


def langchain_leaves() -> None:
    with cancelling():
        stream = chain().stream(ENDLESS)
        next(stream)
        stream.close()


def langchain_calls() -> None:
    answer = chain().bind_tools([look], tool_choice="any").invoke("hi")
    check(answer.tool_calls[0]["name"] == "look" and "city" in answer.tool_calls[0]["args"], answer)
    from langchain_core.messages import HumanMessage, ToolMessage

    result = ToolMessage("Rain.", tool_call_id=answer.tool_calls[0]["id"], name="look")
    after = chain().bind_tools([look]).invoke([HumanMessage("hi", name="Ann"), answer, result])
    check(after.content == "You said: Rain.", after)


def langchain_follows() -> None:
    for method in ("json_schema", "function_calling"):
        made = chain().with_structured_output(Person, method=method).invoke("hi")
        check(isinstance(made, Person), made)


def langchain_is_full() -> None:
    try:
        chain().invoke(LONG)
    except openai.BadRequestError as error:
        check(error.code == "context_length_exceeded", error.body)
    else:
        raise AssertionError("a prompt beyond the context was answered")


# --- LiteLLM ----------------------------------------------------------------------------------------


def lite(text: str, **fields: Any) -> Any:
    import litellm

    litellm.suppress_debug_info = True
    return litellm.completion(
        model=f"openai/{MODEL}", api_base=BASE, api_key=KEY, messages=user(text), num_retries=0, **fields
    )


def litellm_embeds() -> None:
    import litellm

    told = litellm.embedding(
        model=f"openai/{ENCODER}", api_base=BASE, api_key=KEY, input=["a", "b"], encoding_format="float"
    )
    check([len(one["embedding"]) for one in told.data] == [384, 384] and told.usage.prompt_tokens == 6, told)
    told = litellm.embedding(model="ollama/all-minilm", api_base=BASE.removesuffix("/v1"), input=["a", "b"])
    check([len(one["embedding"]) for one in told.data] == [384, 384], told)


def litellm_streams() -> None:
    text = "".join(one.choices[0].delta.content or "" for one in lite("count to 12", stream=True))
    check(text == COUNTED, text)


def litellm_leaves() -> None:
    with cancelling():
        stream = lite(ENDLESS, stream=True)
        next(stream)
        # It has no `close` of its own, and what is only dropped reads on.
        stream.completion_stream.close()


def litellm_calls() -> None:
    call = lite("hi", tools=[LOOK], tool_choice="required").choices[0].message.tool_calls[0]
    check("city" in json.loads(call.function.arguments), call)


def litellm_follows() -> None:
    Person.model_validate_json(lite("hi", response_format=Person).choices[0].message.content)


def litellm_is_full() -> None:
    import litellm

    try:
        lite(LONG)
    except litellm.ContextWindowExceededError:
        return
    raise AssertionError("it does not know the words")


# --- AutoGen ----------------------------------------------------------------------------------------


def autogen_model() -> Any:
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    able = {
        "vision": False,
        "function_calling": True,
        "json_output": True,
        "structured_output": True,
        "family": "unknown",
    }
    return OpenAIChatCompletionClient(model=MODEL, base_url=BASE, api_key=KEY, max_retries=0, model_info=able)


def autogen_said(task: str, **fields: Any) -> Any:
    """What an agent of AutoGen, which names who speaks in each message, says last."""
    from autogen_agentchat.agents import AssistantAgent

    async def run() -> Any:
        model = autogen_model()
        try:
            agent = AssistantAgent("helper", model_client=model, **fields)
            return (await agent.run(task=task)).messages[-1].content
        finally:
            await model.close()

    return asyncio.run(run())


def autogen_answers() -> None:
    said = autogen_said("count to 12", model_client_stream=True)
    check(said == COUNTED, said)


def autogen_calls() -> None:
    call = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'
    said = autogen_said(call, tools=[look])
    check(said == "Rain in Bonn.", said)


def autogen_follows() -> None:
    said = autogen_said("hi", output_content_type=Person)
    check(isinstance(said, Person), said)


# --- instructor, Pydantic AI, LlamaIndex -------------------------------------------------------------


def instructor_follows() -> None:
    import instructor

    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(native, mode=mode)
        made = client.chat.completions.create(model=MODEL, messages=user("hi"), response_model=Person, max_retries=0)
        check(isinstance(made, Person), made)


def pydantic_agent(**fields: Any) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE, api_key=KEY)), **fields)


def pydantic_ai_streams() -> None:
    text = pydantic_agent(tools=[look]).run_sync("count to 12").output
    check(text == COUNTED, text)
    streamed = pydantic_agent().run_stream_sync("count to 12")
    check(list(streamed.stream_text())[-1] == COUNTED, streamed)


def pydantic_ai_calls() -> None:
    call = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'
    said = pydantic_agent(tools=[look]).run_sync(call).output
    check(said == "You said: Rain in Bonn.", said)


def pydantic_ai_follows() -> None:
    from pydantic_ai import NativeOutput

    made = pydantic_agent(output_type=Person).run_sync("hi").output
    check(isinstance(made, Person), made)
    # Tools beside a response schema.
    made = pydantic_agent(output_type=NativeOutput(Person), tools=[look]).run_sync("hi").output
    check(isinstance(made, Person), made)


def llama_index(**fields: Any) -> Any:
    from llama_index.llms.openai_like import OpenAILike

    return OpenAILike(
        model=MODEL, api_base=BASE, api_key=KEY, is_chat_model=True, is_function_calling_model=True, max_retries=0,
        context_window=8192, **fields,
    )  # fmt: skip


def llama_index_streams() -> None:
    pieces = list(llama_index().stream_complete("count to 12"))
    check(pieces[-1].text == COUNTED, pieces[-1])


def llama_index_calls() -> None:
    from llama_index.core.tools import FunctionTool

    made = llama_index().chat_with_tools([FunctionTool.from_defaults(look)], user_msg="hi", tool_required=True)
    (call,) = llama_index().get_tool_calls_from_response(made)
    check(call.tool_name == "look" and "city" in call.tool_kwargs, made)


def llama_index_follows() -> None:
    made = llama_index().as_structured_llm(Person).complete("hi").raw
    check(isinstance(made, Person), made)


ALL: list[Callable[[], None]] = [
    openai_streams, openai_leaves, openai_calls, openai_follows, openai_is_full, openai_embeds,
    responses_streams, responses_leaves_and_reads_on, responses_cancels, responses_calls, responses_follows,
    responses_is_full,
    anthropic_streams, anthropic_leaves, anthropic_calls, anthropic_reads_what_models_write,
    anthropic_follows, anthropic_is_full,
    ollama_streams, ollama_leaves, ollama_calls, ollama_follows, ollama_is_full, ollama_embeds,
    langchain_streams, langchain_leaves, langchain_calls, langchain_follows, langchain_is_full, langchain_embeds,
    litellm_streams, litellm_leaves, litellm_calls, litellm_follows, litellm_is_full, litellm_embeds,
    autogen_answers, autogen_calls, autogen_follows,
    instructor_follows, pydantic_ai_streams, pydantic_ai_calls, pydantic_ai_follows,
    llama_index_streams, llama_index_calls, llama_index_follows,
]  # fmt: skip


def main() -> int:
    """Try all of them."""
    failed = 0
    for one in ALL:
        began = time.monotonic()
        try:
            one()
        except Exception:
            failed += 1
            print(f"FAILED {one.__name__}\n{traceback.format_exc(limit=-2, chain=False)[-1500:]}", flush=True)
        else:
            print(f"ok     {one.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
