// Compiled by `tsc --noEmit --strict`: the types fit how the client is used, and refuse what is wrong.
import { Answer, CommandFailed, connect, type Generate, type ServerMessage } from "../../protocol/javascript/leanvibe.js";

export async function use(): Promise<string> {
  const client = await connect("ws://127.0.0.1:8765/ws", { clientId: "me", detach: true });
  const streams: number | undefined = client.welcome?.limits.streams;
  const five: number = await client.ping(5);
  const data: Generate = { messages: [{ role: "user", content: "hi" }], temperature: 0.5, on_disconnect: "detach" };
  const answer: Answer = await client.generate(data);
  let text = "";
  for await (const piece of answer) text += piece;
  const reason: "stop" | "length" | undefined = answer.done?.finish_reason;
  const accepted: { stream: string; epoch: string } = await client.command("generate", { prompt: "x" });

  // @ts-expect-error a role is one of three words
  const wrongRole: Generate = { messages: [{ role: "robot", content: "hi" }] };
  // @ts-expect-error a temperature is a number
  await client.generate({ prompt: "x", temperature: "hot" });
  // @ts-expect-error no command has this name
  await client.command("teleport", {});
  // @ts-expect-error a client has a name
  await connect("ws://127.0.0.1:8765/ws", {});
  // @ts-expect-error cancel needs its target
  await client.command("cancel", {});

  await client.close();
  return `${streams} ${five} ${reason} ${accepted.stream} ${text} ${wrongRole}`;
}

export function describe(message: ServerMessage): string {
  switch (message.type) {
    case "token":
      return `${message.stream} ${message.seq} ${message.data.text}`;
    case "error":
      return new CommandFailed(message.data).code;
    case "welcome":
      return message.data.connection_id;
    default:
      return message.time;
  }
}
