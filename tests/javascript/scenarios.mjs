// What a program would do with the client; each returns plain values for the test to judge. Runs in Node and browsers.

/** Collects what `run` throws, by name. */
async function failure(run) {
  try {
    await run();
  } catch (error) {
    return { name: error.name, code: error.code ?? null, message: error.message, field: error.data?.field };
  }
  return null;
}

async function pieces(answer) {
  const found = [];
  for await (const piece of answer) found.push(piece);
  return found;
}

/** hello, ping, generate, cancel, and what is refused. */
export async function basics({ connect }, url) {
  const client = await connect(url, { clientId: "js", deviceId: "desk", agent: "test/1" });
  const pings = [];
  for (const payload of [null, 5, "é", [1, { a: null }]]) pings.push(await client.ping(payload));
  const answer = await client.generate({ messages: [{ role: "user", content: "count to 60" }] });
  const told = await pieces(answer);
  const long = await client.generate({ prompt: "count to 900" });
  const cancelled = [];
  for await (const piece of long) {
    if (cancelled.push(piece) === 2) await client.cancel(long.commandId);
  }
  const left = await client.generate({ prompt: "count to 900" });
  for await (const _ of left) break;
  const refused = await failure(() => client.generate({ prompt: "x", top_k: 300 }));
  const tooLarge = await failure(() => client.generate({ prompt: "é".repeat(524_270) }));
  const both = await Promise.all(["one", "two"].map(async (prompt) => (await client.generate({ prompt })).text()));
  const result = {
    welcome: client.welcome, pings, text: told.join(""), count: told.length, done: answer.done,
    wasCancelled: long.wasCancelled, cancelled: cancelled.join(""), refused, tooLarge, both,
  };
  await client.close();
  result.afterwards = await failure(() => client.ping());
  return result;
}

export async function refusedHello({ connect }, url) {
  return failure(() => connect(url, { clientId: "js", token: "sesame" }));
}

/** A ping and an answer, or why there was no session. */
export async function overTls({ connect }, url) {
  let result = null;
  const failed = await failure(async () => {
    const client = await connect(url, { clientId: "js" });
    result = { ping: await client.ping("é"), text: await (await client.generate({ prompt: "count to 9" })).text() };
    await client.close();
  });
  return { result, failed };
}

export async function nobody({ connect }) {
  return failure(() => connect("ws://127.0.0.1:9/ws", { clientId: "js" }));
}

/** Pings for as long as it takes the connection to be cut three times. */
export async function cuts({ connect }, url) {
  let connections = 0;
  let cutsSeen = 0;
  const onChange = ({ state }) => {
    connections += state === "connected";
    cutsSeen += state === "disconnected";
  };
  const client = await connect(url, { clientId: "js", onChange });
  const wrong = [];
  for (let number = 0; connections < 4 && number < 2000; number++) {
    const answer = await client.ping(`${number}-${"x".repeat(200)}`);
    if (answer !== `${number}-${"x".repeat(200)}`) wrong.push(answer);
    // Under the rate that one connection may have.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await client.close();
  return { connections, cutsSeen, wrong };
}

/** One generation, whatever happens to its connection. */
export async function oneAnswer({ connect }, url, options = {}) {
  const states = [];
  const client = await connect(url, { clientId: "js", onChange: ({ state }) => states.push(state), ...options });
  let answer = null;
  let told = [];
  const failed = await failure(async () => {
    answer = await client.generate({ prompt: "x" });
    told = [];
    for await (const piece of answer) told.push(piece);
  });
  const result = { told, done: answer?.done ?? null, failed, states: [...states] };
  await client.close();
  return result;
}

/** One session with one generation each time, one after the other; how each failed. */
export async function manyAnswers(leanvibe, url, count) {
  const failures = [];
  for (let number = 0; number < count; number++) {
    failures.push((await oneAnswer(leanvibe, url, { events: true })).failed);
  }
  return failures;
}

export async function oneCommand({ connect }, url) {
  const client = await connect(url, { clientId: "js" });
  const result = await client.command("task_create", { title: "t" });
  await client.close();
  return result;
}

/** A ping after the server closed the first connection. */
export async function afterClose({ connect }, url) {
  const states = [];
  const client = await connect(url, { clientId: "js", onChange: ({ state }) => states.push(state) });
  let answer = null;
  const failed = await failure(async () => (answer = await client.ping(7)));
  await client.close();
  return { answer, failed, states };
}

export async function events({ connect }, url, count) {
  const client = await connect(url, { clientId: "js", events: true });
  const received = [];
  for await (const event of client.events) {
    received.push([event.type, event.seq]);
    if (received.length === count) break;
  }
  await client.close();
  return received;
}

/** One generation that runs on while its connection is cut. */
export async function detached({ connect }, url, prompt) {
  let cuts = 0;
  const onChange = ({ state }) => (cuts += state === "disconnected");
  const client = await connect(url, { clientId: "js", detach: true, onChange });
  const answer = await client.generate({ prompt });
  const text = await answer.text();
  await client.close();
  return { text, cuts, reason: answer.done.finish_reason };
}

/** The rules that need no server. */
export async function rules({ comesBack, delayMs, StreamPosition, CLOSE_CODES }) {
  const position = new StreamPosition("s", "e");
  const takes = [
    { seq: 1 }, { first_seq: 2, seq: 4 }, { seq: 3 }, { first_seq: 1, seq: 4 }, { first_seq: 4, seq: 6 }, { seq: 5 },
  ].map((frame) => position.take(frame));
  position.resumed({ resumed: false, head: 9, snapshot: { seq: 8 } }, "new");
  takes.push(position.take({ seq: 9 }));
  return {
    takes,
    point: position.point(),
    codes: CLOSE_CODES,
    comesBack: [null, 1000, 1005, 1006, 4999].map(comesBack),
    highest: [0, 1, 2, 3, 4, 5, 6, 9999].map((attempt) => delayMs(attempt, undefined, () => 1)),
    hinted: delayMs(3, 1234),
  };
}

/** The platform's own WebSocket, without our client: what each of these brings back. */
export async function plainWebSocket(_, url) {
  const hello = { type: "hello", id: "h", data: { client_id: "plain" } };

  const session = (frames, { protocols = ["leanvibe.v1+json"], close } = {}) =>
    new Promise((resolve) => {
      const socket = new WebSocket(url, protocols);
      const found = { protocol: null, types: [], data: [] };
      const send = (some) => {
        for (const one of some) socket.send(typeof one === "string" || one instanceof ArrayBuffer ? one : JSON.stringify(one));
      };
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        found.protocol = socket.protocol;
        // What follows a hello waits for its welcome, so that a close cannot overtake that.
        send(frames.slice(0, frames[0] === hello ? 1 : frames.length));
        if (close !== undefined && frames.length === 0) socket.close(...close);
      };
      socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        found.types.push(message.type);
        if (found.types.length === 1 && frames[0] === hello) send(frames.slice(1));
        if (message.type !== "welcome") found.data.push(message.data?.code ?? message.data);
        if (close !== undefined && found.types.length === frames.length) socket.close(...close);
      };
      socket.onclose = ({ code, reason, wasClean }) => resolve({ ...found, code, reason, wasClean });
    });

  const ping = (data) => ({ type: "ping", id: "p", data });
  const results = {
    pings: await session([hello, ping("grüße 😀"), ping([1, null])], { close: [1000, "done"] }),
    offersNothing: await session([hello, ping(1)], { protocols: [], close: [4999, "ü"] }),
    code3000: await session([], { close: [3000] }),
    binary: await session([hello, new ArrayBuffer(3)]),
    tooLarge: await session([hello, "a".repeat(1024 * 1024 + 1)]),
    tooLargeInBytes: await session([hello, "é".repeat(512 * 1024 + 1)]),
    beforeHello: await session([ping(1)]),
    twoHellos: await session([hello, { ...hello, id: "h2" }]),
    empty: await session([hello, "", ping(2)], { close: [1000] }),
  };
  return results;
}

/** What golden/one_answer_and_a_cut.jsonl is about. */
export async function goldenTranscript({ connect }, url) {
  const client = await connect(url, { clientId: "golden" });
  const ping = await client.ping(["grüße", { a: null }]);
  const answer = await client.generate({ prompt: "count to 5" });
  const text = await answer.text();
  const refused = await failure(() => client.cancel(answer.commandId));
  await client.close();
  return { ping, text, done: answer.done, refused: refused.code };
}

/** A wall clock that a scenario sets: it runs on while a machine sleeps, and timers do not. */
function sleepingClock() {
  const real = Date.now;
  let sleptMs = 0;
  Date.now = () => real() + sleptMs;
  return { sleep: (ms) => (sleptMs = ms), wake: () => (Date.now = real) };
}

/** What a program sees of a server that sends its client away with a hint, while the machine sleeps. */
export async function sleeps({ connect }, url, sleptMs, options = {}) {
  const clock = sleepingClock();
  const states = [];
  const onChange = ({ state, delayMs }) => {
    states.push(state);
    // At the cut it sleeps through the pause before the next attempt.
    if (state === (options.at ?? "disconnected")) clock.sleep(sleptMs);
  };
  const client = await connect(url, { clientId: "js", onChange, ...options });
  const began = performance.now();
  let made = null;
  const failed = await failure(async () => (made = await client.command(options.kind ?? "ping", options.data ?? 7)));
  const waitedMs = performance.now() - began;
  let ping = null;
  const failedAfterwards = await failure(async () => (ping = await client.ping(8)));
  await client.close();
  clock.wake();
  return { made, failed, failedAfterwards, ping, waitedMs, states };
}

/** How a session ends that asks once and is not answered. */
export async function endsBy({ connect }, url, options = {}) {
  const states = [];
  const client = await connect(url, { clientId: "js", onChange: ({ state }) => states.push(state), ...options });
  const failed = await failure(() => client.command(options.kind ?? "ping", {}));
  await client.close();
  return { failed, states };
}

export async function reads({ READS }) {
  return [...READS];
}

/** Reads nothing until a ping is answered, then everything. */
export async function readsLate({ connect }, url, count) {
  const client = await connect(url, { clientId: "js", events: true });
  const answer = await client.generate({ prompt: "x" });
  const ping = await client.ping(1);
  const told = await pieces(answer);
  const seqs = [];
  for await (const event of client.events) {
    if (seqs.push(event.seq) === count) break;
  }
  const many = await Promise.allSettled(Array.from({ length: 1025 }, () => client.command("task_list", {}, { timeoutMs: 300 })));
  await client.close();
  return { ping, text: told.join(""), count: told.length, seqs, refused: many.at(-1).reason.code, others: many[0].reason.name };
}

/** One connection asks, another of the same client goes on with its answer; a third asks for what never was. */
export async function follows({ connect }, url) {
  const states = [];
  const asker = await connect(url, { clientId: "js", detach: true });
  const answer = await asker.generate({ prompt: "count to 80" });
  let first = "";
  for await (const piece of answer) {
    first = piece;
    if (first) break;
  }
  // Leaving the loop early cancels; so the one to be followed is another.
  const told = await asker.generate({ prompt: "count to 60" });
  const { stream, epoch, commandId } = told;
  const other = await connect(url, { clientId: "js", deviceId: "two", onState: (kind, data) => states.push([kind, data]) });
  const followed = await other.follow({ stream, epoch, commandId });
  const twice = await failure(() => other.follow({ stream, epoch, commandId }));
  const text = await followed.text();
  const lost = await failure(async () => (await other.follow({ stream: "no-such", epoch, commandId: "c" })).text());
  const own = await told.text();
  await asker.close();
  // The last of its other devices has gone, which is told.
  while (!states.some(([kind, data]) => kind === "devices" && data.devices.length === 1)) await new Promise((resolve) => setTimeout(resolve, 20));
  await other.close();
  return { text, own, twice, lost, done: followed.done, states };
}

/** Watches the server across a cut, and what becomes of commands without a connection. */
export async function watches({ connect, TOPIC_KEYS }, url) {
  let connections = 0;
  const client = await connect(url, { clientId: "js", onChange: ({ state }) => (connections += state === "connected") });
  const view = await client.watch(["tree", "requests"], { trace: { path: "tasks" } });
  await client.command("task_list", {});
  const text = await (await client.generate({ prompt: "count to 3" })).text();
  const seen = new Set();
  for await (const topic of view) {
    seen.add(topic);
    if (seen.has("trace") && [...view.items("requests").values()].some((one) => one.state === "ended")) break;
  }
  while (connections === 1) await client.ping("x".repeat(3000)).catch(() => {});
  // What comes now was watched on the second connection.
  await client.ping();
  for await (const topic of view) if (topic === "tree") break;
  const paths = [...view.items("tree").keys()];
  await view.close();
  const after = [];
  for await (const topic of view) after.push(topic);
  await client.close();
  const none = await failure(() => client.command("engine_kill", {}));
  return { text, topics: [...seen].sort(), paths, connections, none, trace: view.trace, keys: Object.keys(TOPIC_KEYS) };
}
