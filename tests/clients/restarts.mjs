// Clients for Node beneath which the server is killed: `restarts.mjs BASE MODEL ENDLESS QUESTION`, run by restarts.py.
// A line on the input starts them; `streaming` on the output says that each has its first piece, and a line for each what became of it.
import { once } from "node:events";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

const [base, name, endless, question] = process.argv.slice(2);
const maxRetries = 20;
const counted = (last) => Array.from({ length: last }, (_, index) => index + 1).join(" ");
const wanted = counted(Number(question.split(" ").at(-1)));
const client = new OpenAI({ baseURL: base, apiKey: "unused", maxRetries });
const chat = createOpenAICompatible({ name: "local", baseURL: base, apiKey: "unused" })(name);
const responses = createOpenAI({ baseURL: base, apiKey: "unused" }).responses(name);

/** Streams with Vercel's AI SDK, is told of the cut, and asks again by its retry. */
async function isTold(model, streams) {
  let cut;
  try {
    for await (const part of streamText({ model, prompt: endless, maxRetries: 0, onError() {} }).fullStream) {
      if (part.type === "text-delta") streams();
    }
  } catch (error) {
    cut = error;
  }
  if (!cut) throw new Error("it took half an answer for all of it");
  const { text } = await generateText({ model, prompt: question, maxRetries });
  if (text !== wanted) throw new Error(text.slice(0, 300));
  return `told as ${cut.name}: ${cut.message}`;
}

/** Reads a stored response on from where it was cut, to the same text. */
async function readsOn(streams) {
  const events = [];
  try {
    for await (const event of await client.responses.create({ model: name, input: "count to 900", stream: true })) {
      events.push(event);
      if (event.type === "response.output_text.delta") streams();
    }
  } catch (error) {
    const query = { stream: true, starting_after: events.at(-1).sequence_number };
    for await (const event of await client.responses.retrieve(events[0].response.id, query)) events.push(event);
    if (!events.every((event, index) => event.sequence_number === index)) throw new Error("events are missing");
    if (events.at(-1).response.output[0].content[0].text !== counted(900)) throw new Error("another text");
    return `told as ${error.name}: ${error.message}`;
  }
  throw new Error("it was not cut");
}

const all = {
  ai_sdk: (streams) => isTold(chat, streams),
  ai_sdk_responses: (streams) => isTold(responses, streams),
  openai_node_responses: readsOn,
};

await once(process.stdin, "data");
const running = Object.values(all).map((run) => {
  let streams;
  const isStreaming = new Promise((resolve) => (streams = resolve));
  const ended = run(streams).then((told) => [true, told], (error) => [false, error.message]);
  ended.then(streams);
  return { isStreaming, ended };
});
for (const { isStreaming } of running) await isStreaming;
console.log("streaming");
let failed = 0;
for (const [index, { ended }] of running.entries()) {
  const [isRight, told] = await ended;
  failed += isRight ? 0 : 1;
  console.log(`       ${isRight ? "" : "FAILED "}${Object.keys(all)[index]}: ${String(told).slice(0, 500)}`);
}
process.exit(failed ? 1 : 0);
