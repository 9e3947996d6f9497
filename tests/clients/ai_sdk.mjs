// Vercel's AI SDK, as it comes, against a server with the mock engine: `ai_sdk.mjs BASE MODEL`. Prints a line for each thing.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [base, name] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "local", baseURL: base, apiKey: "unused", supportsStructuredOutputs: true });
const model = provider(name);
const counted = Array.from({ length: 12 }, (_, index) => index + 1).join(" ");
const city = jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] });
const look = tool({ description: "Look", inputSchema: city, execute: async ({ city }) => `Rain in ${city}.` });
const person = jsonSchema({
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
});

function check(isRight, seen) {
  if (!isRight) throw new Error(JSON.stringify(seen)?.slice(0, 500));
}

async function cancelled() {
  const answer = await fetch(base.replace(/v1$/, "health/mlx"));
  return (await answer.json()).requests.cancelled ?? 0;
}

const all = {
  async streams() {
    let text = "";
    for await (const piece of streamText({ model, prompt: "count to 12", maxRetries: 0 }).textStream) text += piece;
    check(text === counted, text);
  },
  async leaves() {
    const before = await cancelled();
    const controller = new AbortController();
    const { textStream } = streamText({ model, prompt: "count to 9000", maxRetries: 0, abortSignal: controller.signal });
    for await (const _ of textStream) break;
    controller.abort();
    for (let tries = 0; (await cancelled()) === before; tries += 1) {
      check(tries < 600, "the answer went on without its client");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  },
  async calls() {
    const asked = { model, prompt: "hi", tools: { look }, toolChoice: "required", stopWhen: stepCountIs(1), maxRetries: 0 };
    const { toolCalls } = await generateText(asked);
    check(toolCalls[0].toolName === "look" && "city" in toolCalls[0].input, toolCalls);
  },
  async goes_on_after_calls() {
    // The first step is forced, the second answers with the result.
    const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "auto" });
    const asked = { model, prompt: "hi", tools: { look }, prepareStep, stopWhen: stepCountIs(2), maxRetries: 0 };
    const { text } = await generateText(asked);
    check(text.startsWith("You said:") && text.includes("Rain in"), text);
  },
  async follows() {
    const { object } = await generateObject({ model, schema: person, prompt: "hi", maxRetries: 0 });
    check(Number.isInteger(object.age), object);
  },
  async is_full() {
    try {
      await generateText({ model, prompt: "word ".repeat(9000), maxRetries: 0 });
    } catch (error) {
      check(error.statusCode === 400 && /maximum context length/.test(error.message), error.message);
      return;
    }
    throw new Error("a prompt beyond the context was answered");
  },
};

let failed = 0;
for (const [name, run] of Object.entries(all)) {
  try {
    await run();
    console.log(`ok     ai_sdk_${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ai_sdk_${name}\n${String(error.message ?? error).slice(0, 800)}`);
  }
}
process.exit(failed ? 1 : 0);
