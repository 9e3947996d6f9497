// Asks the server what the Python tests want to know of the official Node client; prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0, timeout: 10_000 });
const messages = [{ role: "user", content: "count to 12" }];
const found = {};

found.models = [];
for await (const model of client.models.list()) found.models.push(model.id);

const whole = await client.chat.completions.create({ model: "mock", messages, logprobs: true, top_logprobs: 1 });
found.whole = {
  text: whole.choices[0].message.content,
  reason: whole.choices[0].finish_reason,
  usage: whole.usage,
  tokens: whole.choices[0].logprobs.content.map((one) => one.token),
};

const streamed = { text: "", reasons: [], usage: null, tokens: [] };
const stream = await client.chat.completions.create({
  model: "mock",
  messages,
  stream: true,
  logprobs: true,
  top_logprobs: 1,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  const [choice] = chunk.choices;
  if (choice) {
    streamed.text += choice.delta.content ?? "";
    streamed.reasons.push(choice.finish_reason);
    streamed.tokens.push(...(choice.logprobs?.content ?? []).map((one) => one.token));
  }
  if (chunk.usage) streamed.usage = chunk.usage;
}
found.streamed = streamed;

// The package's own accumulator of streams, which checks the order of chunks.
const gathered = client.chat.completions.stream({ model: "mock", messages });
found.gathered = (await gathered.finalChatCompletion()).choices[0].message.content;

found.completion = (await client.completions.create({ model: "mock", prompt: "count to 3" })).choices[0].text;

found.errors = {};
for (const [name, options] of Object.entries({
  model: { model: "gpt-5" },
  n: { n: 9 },
  tools: { tools: [{ type: "shell" }] },
})) {
  try {
    await client.chat.completions.create({ model: "mock", messages, ...options });
  } catch (error) {
    found.errors[name] = { kind: error.constructor.name, status: error.status, param: error.param, code: error.code };
  }
}

// Leaving a stream in its middle.
const long = await client.chat.completions.create({
  model: "mock",
  messages: [{ role: "user", content: "count to 900" }],
  stream: true,
});
for await (const chunk of long) {
  if (chunk.choices[0].delta.content) break;
}
console.log(JSON.stringify(found));
