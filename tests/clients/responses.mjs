// OpenAI's own client for Node and the responses of Vercel's AI SDK, as they come: `responses.mjs BASE MODEL`. Prints a line for each thing.
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

const [base, name] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base, apiKey: "unused", maxRetries: 0 });
const model = createOpenAI({ baseURL: base, apiKey: "unused" }).responses(name);
const counted = Array.from({ length: 12 }, (_, index) => index + 1).join(" ");
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const look = tool({ description: "Look", inputSchema: jsonSchema(city), execute: async ({ city }) => `Rain in ${city}.` });
const person = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};

function check(isRight, seen) {
  if (!isRight) throw new Error(JSON.stringify(seen)?.slice(0, 500));
}

const all = {
  async openai_node_is_cut_and_reads_on() {
    const stream = await client.responses.create({ model: name, input: "count to 12", stream: true });
    const events = [];
    for await (const event of stream) {
      events.push(event);
      if (events.length === 6) break;
    }
    const query = { stream: true, starting_after: events.at(-1).sequence_number };
    for await (const event of await client.responses.retrieve(events[0].response.id, query)) events.push(event);
    check(events.every((event, index) => event.sequence_number === index), events);
    check(events.at(-1).response.output[0].content[0].text === counted, events.at(-1));
  },
  async openai_node_calls() {
    const tools = [{ type: "function", name: "look", parameters: city, strict: true }];
    const first = await client.responses.create({ model: name, input: "hi", tools, tool_choice: "required" });
    const call = first.output.find((one) => one.type === "function_call");
    const result = { type: "function_call_output", call_id: call.call_id, output: "Rain" };
    const second = await client.responses.create({ model: name, input: [result], tools, previous_response_id: first.id });
    check(second.output_text.includes("Rain"), second.output);
  },
  async openai_node_follows() {
    const format = { type: "json_schema", name: "person", schema: person, strict: true };
    const response = await client.responses.create({ model: name, input: "hi", text: { format } });
    check(Number.isInteger(JSON.parse(response.output_text).age), response.output_text);
  },
  async openai_node_cancels() {
    const made = await client.responses.create({ model: name, input: "count to 900", background: true });
    check(made.status === "queued", made);
    check(["cancelled", "completed"].includes((await client.responses.cancel(made.id)).status), made);
    await client.responses.delete(made.id);
  },
  async openai_node_is_full() {
    const error = await client.responses.create({ model: name, input: "word ".repeat(9000) }).catch((one) => one);
    check(error.status === 400 && error.code === "context_length_exceeded" && error.param === "input", error);
  },
  async ai_sdk_responses_streams() {
    let text = "";
    for await (const piece of streamText({ model, prompt: "count to 12", maxRetries: 0 }).textStream) text += piece;
    check(text === counted, text);
  },
  async ai_sdk_responses_leaves_what_goes_on() {
    // What is stored is made whether or not somebody reads it.
    const controller = new AbortController();
    const asked = { model, prompt: "count to 300", maxRetries: 0, abortSignal: controller.signal, includeRawChunks: true };
    let id;
    for await (const part of streamText(asked).fullStream) {
      if (part.type === "raw") id ??= part.rawValue.response?.id;
      if (part.type === "text-delta") break;
    }
    controller.abort();
    const events = [];
    for await (const event of await client.responses.retrieve(id, { stream: true })) events.push(event);
    check(events.at(-1).response.output[0].content[0].text.endsWith(" 299 300"), events.at(-1));
  },
  async ai_sdk_responses_goes_on_after_calls() {
    // The second step sends the first one's items by their ids.
    const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "auto" });
    const asked = { model, prompt: "hi", tools: { look }, prepareStep, stopWhen: stepCountIs(2), maxRetries: 0 };
    const { text } = await generateText(asked);
    check(text.includes("Rain in"), text);
  },
  async ai_sdk_responses_follows() {
    const { object } = await generateObject({ model, schema: jsonSchema(person), prompt: "hi", maxRetries: 0 });
    check(Number.isInteger(object.age), object);
  },
  async ai_sdk_responses_is_full() {
    const error = await generateText({ model, prompt: "word ".repeat(9000), maxRetries: 0 }).catch((one) => one);
    check(error.statusCode === 400 && /maximum context length/.test(error.message), error.message);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(all)) {
  try {
    await run();
    console.log(`ok     ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${String(error.message ?? error).slice(0, 800)}`);
  }
}
process.exit(failed ? 1 : 0);
