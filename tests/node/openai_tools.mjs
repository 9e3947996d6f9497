// Forces calls of tools with the official Node client; prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Book a room in Rome." }];
const parameters = { type: "object", properties: { city: { enum: ["Bonn", "Paris", "Rome"] } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "book", description: "Book a room", parameters } }];
const asked = { model: "with-tools", messages, tools, temperature: 0, max_tokens: 200 };
const named = { ...asked, tool_choice: { type: "function", function: { name: "book" } } };

const whole = (await client.chat.completions.create(named)).choices[0].message.tool_calls[0].function;
// The package's own accumulator, which puts the pieces of calls together.
const gathered = await client.chat.completions.stream(named).finalChatCompletion();
const streamed = gathered.choices[0].message.tool_calls[0].function;
const forced = { ...asked, tool_choice: "required", parallel_tool_calls: false };
const [required] = (await client.chat.completions.create(forced)).choices;
console.log(
  JSON.stringify({
    whole,
    streamed: { name: streamed.name, arguments: streamed.arguments },
    required: { reason: required.finish_reason, calls: required.message.tool_calls.length },
  }),
);
