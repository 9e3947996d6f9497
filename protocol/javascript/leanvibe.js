/**
 * The LeanVibe client for browsers and Node (22 and newer, for its own WebSocket): one file, no dependencies.
 *
 *   const client = await connect("ws://127.0.0.1:8000/ws", { clientId: "me" });
 *   for await (const text of await client.generate({ prompt: "hello" })) console.log(text);
 *   await client.close();
 *
 * After a cut it comes back by itself, for as long as it takes: commands without an answer are sent again with the same
 * id, which the server carries out once while it remembers them, and streams go on where they stood or from a snapshot.
 * Types are in leanvibe.d.ts.
 */

export const SUBPROTOCOL = "leanvibe.v1+json";
export const VERSION = 1;

/** Close codes after which a client does not come back; so it does after no code at all. */
export const CLOSE_CODES = Object.freeze({
  1001: "after", 1007: "no", 1009: "no", 1011: "yes", 1012: "after", 4008: "yes",
  4400: "no", 4401: "no", 4403: "no", 4408: "yes", 4409: "no", 4429: "after",
});

const CONNECT_MS = 10_000;
const ANSWER_MS = 40_000;
const SILENCE_MS = 45_000;
const CANCEL_MS = 2_000;
const ACKNOWLEDGE_MS = 1_000;
/** A connection that lived so long was of use, even if nothing was asked on it. */
const STEADY_MS = 10_000;
const HINT_MS = 300_000;
const LOOK_MS = 1_000;
/** A look that comes so much too late: the machine slept, or the page was stopped. */
const ASLEEP_MS = 2_000;
const WAKE_MS = 5_000;
const MEMORY_SECONDS = 600;
/** Of the server's memory, what a command may take to be repeated in: it has to arrive in time, too. */
const MARGIN = 0.9;
/** What a frame grows by that asks what became of a command. */
const ASKING_BYTES = 64;
const FORGOTTEN = "the server no longer remembers commands that are so old";
const PENDING_COMMANDS = 1024;
const WAITING = 4096;
/** Commands that change nothing, so that they may be sent again at any time. */
export const READS = new Set([
  "hello", "ping", "pong", "cancel", "generation_progress", "resume", "ack", "subscribe", "task_get", "task_list",
  "task_board", "task_history", "task_stats", "notification_list", "device_list", "conversation_list", "conversation_get",
  "watch", "actor_state", "token_list",
]);
/**
 * Commands of operators. The server does not remember them, so none is sent a second time by itself, or later than it was
 * meant: without a connection they fail at once.
 */
export const OPERATOR_COMMANDS = new Set([
  "watch", "actor_state", "actor_restart", "actor_suspend", "actor_resume", "engine_kill", "token_list", "token_create",
  "token_revoke",
]);
/** Of each topic that an operator may watch the field that its things are known by. */
export const TOPIC_KEYS = Object.freeze({
  tree: "path", metrics: "time_ms", requests: "id", models: "full_name", dead_letters: "id", clients: "id",
});
const WATCHED = new Map([...Object.keys(TOPIC_KEYS).map((topic) => [`${topic}_changed`, topic]), ["trace_records", "trace"]]);
const TRACE_RECORDS = 1000;
const EVENT_IDS = 4096;
const FRAME_BYTES = 1024 * 1024;
const CLIENT_STREAM = "client";
const STATE_STREAM = "state";
const UNKNOWN_EPOCH = "none";
/** Messages whose data is an object; what others carry is theirs to say. */
const OBJECT_DATA = new Set([
  "welcome", "error", "accepted", "token", "done", "cancelled", "failed", "events", "going_away",
  "tree_changed", "metrics_changed", "requests_changed", "models_changed", "dead_letters_changed", "clients_changed",
  "trace_records",
]);
const TERMINAL = new Set(["done", "cancelled", "failed"]);

/** The server said no: `data` is its `error` or `failed`. */
export class CommandFailed extends Error {
  constructor(data) {
    super(`${data.code}: ${data.message}`);
    this.name = "CommandFailed";
    this.data = data;
    this.code = data.code;
  }
}

/** The connection ended and no other follows, or an answer was lost with it. */
export class Disconnected extends Error {
  constructor(code, reason, message) {
    super(message ?? `the connection ended${code == null ? "" : ` (${code})`}${reason ? `: ${reason}` : ""}`);
    this.name = "Disconnected";
    this.code = code;
    this.reason = reason;
  }
}

/** The server will not have this client, and would not the next time either; `reason` is its sentence. */
export class Refused extends Disconnected {
  constructor(reason, code = null) {
    super(code, reason, `the server refuses this client: ${reason}`);
    this.name = "Refused";
  }
}

/**
 * A command that changes something was sent and its answer did not come, so nobody here knows what became of it. It is
 * not sent again: past the time for which the server remembers commands it would be carried out twice.
 */
export class OutcomeUnknown extends Disconnected {
  constructor(kind, commandId, cause) {
    const { code, reason, message } = cause;
    super(code, reason, `${kind} was sent and may have been carried out; check before you repeat it (${message})`);
    this.name = "OutcomeUnknown";
    this.kind = kind;
    this.commandId = commandId;
  }
}

/** Whether a connection that ended with this close code may be opened again. */
export function comesBack(code) {
  if (code === null || code === undefined || code === 1005 || code === 1006) return true;
  // Said by what stands between, while the server is away.
  if (code === 1013 || code === 1014) return true;
  return (CLOSE_CODES[code] ?? "no") !== "no";
}

/** Milliseconds before attempt 0, 1, 2 …: full jitter; what the server said wins, up to five minutes. */
export function delayMs(attempt, hintMs, random = Math.random) {
  if (typeof hintMs === "number") return Math.min(Math.max(0, hintMs), HINT_MS);
  return random() * Math.min(10_000, 250 * 2 ** Math.min(attempt, 64));
}

/** How far a client has followed one stream. */
export class StreamPosition {
  constructor(stream, epoch, seq = 0) {
    this.stream = stream;
    this.epoch = epoch;
    this.seq = seq;
    this.isRecovering = false;
  }

  /** Judges a frame: `next` (and stands behind it), `seen` or `loss`. */
  take(frame) {
    const first = frame.first_seq ?? frame.seq;
    if (!Number.isInteger(frame.seq) || !Number.isInteger(first) || first < 1 || first > frame.seq) {
      throw new Disconnected(null, "seq and first_seq must be integers");
    }
    if (frame.seq <= this.seq) return "seen";
    if (this.isRecovering || first !== this.seq + 1) {
      this.isRecovering = true;
      return "loss";
    }
    this.seq = frame.seq;
    return "next";
  }

  point() {
    return { stream: this.stream, epoch: this.epoch, seq: this.seq };
  }

  /** Takes the answer to a resume; false where a snapshot holds instead of events. */
  resumed(result, epoch) {
    this.isRecovering = false;
    if (epoch !== undefined) this.epoch = epoch;
    if (result.resumed) return true;
    this.epoch = result.snapshot?.epoch ?? this.epoch;
    this.seq = result.snapshot?.seq ?? result.head ?? 0;
    return false;
  }
}

/** A queue that one reader iterates over. */
class Queue {
  #items = [];
  #waiting = null;
  #failure = undefined;

  get length() {
    return this.#items.length;
  }

  put(item) {
    if (this.#failure !== undefined) return;
    this.#items.push(item);
    this.#wake();
  }

  /** Text joins the text before it once many wait: all of an answer is no more than its text. */
  putText(text) {
    const last = this.#items.length - 1;
    if (last + 1 >= WAITING && typeof this.#items[last] === "string") this.#items[last] += text;
    else this.put(text);
  }

  /** No more will come: what waits can still be read, then the failure is thrown. */
  end(failure) {
    this.#failure ??= failure;
    this.#wake();
  }

  #wake() {
    this.#waiting?.();
    this.#waiting = null;
  }

  async take() {
    while (this.#items.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise((resolve) => (this.#waiting = resolve));
    }
    return this.#items.shift();
  }
}

/** A streamed answer: iterate over it for pieces of text; then `done` holds the last event's data. */
export class Answer {
  #queue = new Queue();
  #told = "";
  /** Told here before, and not yet made again by a server that began anew. */
  #behind = "";
  #isOver = false;
  #cancel;

  constructor(commandId, accepted, cancel) {
    this.commandId = commandId;
    this.stream = accepted.stream;
    /** With `stream` and `commandId`, what `follow` goes on with in another program. */
    this.epoch = accepted.epoch;
    this.done = null;
    this.wasCancelled = false;
    this.#cancel = cancel;
  }

  async *[Symbol.asyncIterator]() {
    try {
      while (!this.#isOver) {
        const item = await this.#queue.take();
        if (typeof item === "string") {
          yield item;
          continue;
        }
        this.#isOver = true;
        if (item.type === "done") this.done = item.data;
        else if (item.type === "cancelled") this.wasCancelled = true;
        else throw new CommandFailed(item.data);
      }
    } finally {
      // A loop that is left early ends the generation: the server frees the row instead of talking to nobody.
      await this.cancel();
    }
  }

  /** The whole answer, or what of it was not read yet. */
  async text() {
    let whole = "";
    for await (const piece of this) whole += piece;
    return whole;
  }

  /** Ends it, if it still runs. */
  async cancel() {
    const wasOver = this.#isOver;
    await this.#cancel(this, wasOver);
  }

  _take(message) {
    if (message.type === "token") {
      if (typeof message.data.text !== "string") throw new TypeError("its text is not a string");
      this.#putWhatIsNew(message.data.text);
    } else if (message.type === "done" && this.#behind) {
      this._end(new Disconnected(null, "the server has lost this answer"));
    } else if (TERMINAL.has(message.type)) {
      this.#queue.put(message);
    }
  }

  _takeSnapshot(result) {
    const { text, state, data } = result.snapshot ?? {};
    if (typeof text !== "string" || state === "unavailable") {
      this._end(new Disconnected(null, "the server has lost this answer"));
      return;
    }
    // What was emitted never changes, so only the rest is new; a server that was restarted makes the answer again
    // from its first token, so its text may be the shorter one.
    this.#behind = this.#told;
    this.#putWhatIsNew(text);
    if (TERMINAL.has(state)) this._take({ type: state, data: data ?? {} });
  }

  #putWhatIsNew(text) {
    const again = text.slice(0, this.#behind.length);
    if (!this.#behind.startsWith(again)) {
      this._end(new Disconnected(null, "the server has lost this answer"));
      return;
    }
    const fresh = text.slice(this.#behind.length);
    this.#behind = this.#behind.slice(again.length);
    if (fresh) this.#put(fresh);
  }

  _end(failure) {
    this.#queue.end(failure);
  }

  #put(text) {
    this.#told += text;
    this.#queue.putText(text);
  }
}

/** Iterate over it for durable events, and for `{type: "snapshot"}` wherever some were lost and at the beginning. */
export class ClientEvents {
  #queue = new Queue();
  #ids = new Set();
  #position;
  #askAgain = null;

  constructor(position) {
    this.#position = position;
    this.handedOutSeq = 0;
    this.acknowledgedSeq = 0;
  }

  async *[Symbol.asyncIterator]() {
    while (true) {
      if (this.#askAgain !== null && this.#queue.length <= WAITING / 2) {
        this.#askAgain();
        this.#askAgain = null;
      }
      const item = await this.#queue.take();
      yield item;
      // Asking for the next one says that this one is dealt with.
      this.handedOutSeq = item.seq;
    }
  }

  /** The program reads too slowly: what comes next is left to the server's log, until half of what waits was read. */
  get _isFull() {
    return this.#queue.length >= WAITING;
  }

  _leaveToLog(askAgain) {
    this.#askAgain = askAgain;
  }

  _take(message) {
    if (message.type === "events") {
      for (const one of message.data.events) this._take(one);
      return;
    }
    const id = message.data?.event_id;
    if (typeof id === "string") {
      if (this.#ids.has(id)) return;
      this.#ids.add(id);
      if (this.#ids.size > EVENT_IDS) this.#ids.delete(this.#ids.values().next().value);
    }
    this.#queue.put({ type: message.type, seq: message.seq, time: message.time, data: message.data });
  }

  _takeSnapshot(result) {
    this.#queue.put({ type: "snapshot", seq: this.#position.seq, data: result.snapshot ?? {} });
  }

  _end(failure) {
    this.#queue.end(failure);
  }
}

/**
 * What an operator sees of the server: the newest state of each topic. Iterate over it for the names of topics that
 * changed, `trace` among them, each once however often it did: nothing else waits for a slow reader.
 */
export class OperatorView {
  #items = new Map();
  #latest = new Map();
  #changed = new Set();
  #wake = null;
  #failure = undefined;
  #close;

  constructor(topics, close) {
    this.topics = topics;
    for (const topic of topics) this.#items.set(topic, new Map());
    /** The last records of the trace, oldest first. */
    this.trace = [];
    this.#close = close;
  }

  /** The things of a topic, by the field that they are known by; a new map after each change. */
  items(topic) {
    return this.#items.get(topic);
  }

  /** Data of the last message of a topic, for what it says besides; null before the first. */
  latest(topic) {
    return this.#latest.get(topic) ?? null;
  }

  async *[Symbol.asyncIterator]() {
    while (true) {
      const [topic] = this.#changed;
      if (topic !== undefined) {
        this.#changed.delete(topic);
        yield topic;
      } else if (this.#failure !== undefined) {
        if (this.#failure !== null) throw this.#failure;
        return;
      } else {
        await new Promise((resolve) => (this.#wake = resolve));
      }
    }
  }

  /** Watches no more. */
  close() {
    return this.#close(this);
  }

  _take(message) {
    const topic = WATCHED.get(message.type);
    const { data } = message;
    if (topic === "trace") {
      this.trace = [...this.trace, ...data.records].slice(-TRACE_RECORDS);
    } else if (this.#items.has(topic)) {
      const found = new Map(data.is_whole ? [] : this.#items.get(topic));
      for (const key of data.removed) found.delete(key);
      for (const one of data.changed) found.set(String(one[TOPIC_KEYS[topic]]), one);
      this.#items.set(topic, found);
    } else {
      return; // of what was watched before
    }
    this.#latest.set(topic, data);
    this.#changed.add(topic);
    this.#wake?.();
  }

  _end(failure) {
    if (this.#failure === undefined) this.#failure = failure;
    this.#wake?.();
  }
}

/** Made by `connect`. */
export class Client {
  #url;
  #options;
  #WebSocket;
  #socket = null;
  #isWelcome = false;
  #pending = new Map();
  #positions = new Map();
  #streams = new Map();
  #view = null;
  /** Settles when the last `watch` was answered: the server carries commands out beside one another. */
  #watched = Promise.resolve();
  #nextNumber = 1;
  #prefix = randomPrefix();
  #hintMs;
  #ended = null;
  #isLeaving = false;
  #attempt = 0;
  #welcomedAt = null;
  #wasOfUse = false;
  /** Milliseconds that this program was awake, and when that was looked at last. */
  #awakeMs = 0;
  #lookedAt = Date.now();
  #failingSinceMs = 0;
  #heardAt = 0;
  #look = null;
  #silence = null;
  #retry = null;
  #acknowledging = null;

  constructor(url, options) {
    this.#url = url;
    this.#options = { deviceId: "default", reconnect: true, detach: false, events: false, ...options };
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (this.#WebSocket === undefined) {
      throw new Error("no WebSocket here; Node 22 has one, older ones need the option WebSocket");
    }
    this.welcome = null;
    this.goingAway = null;
    this.events = null;
  }

  // --- for programs ---------------------------------------------------------------------------------

  /** Sends a command and resolves with the data of its answer; rejects with CommandFailed or Disconnected. */
  async command(type, data, options = {}) {
    return (await this.#ask(type, data, options)).data;
  }

  /** A round trip; resolves with the payload as the server sent it back. */
  ping(payload = null) {
    return this.command("ping", payload);
  }

  /** Ends a running command; whether it was still running. */
  async cancel(commandId) {
    return (await this.command("cancel", { target: commandId })).cancelled;
  }

  /** Starts a generation; leaving a loop over it early cancels it. */
  generate(data) {
    return this.#startStream("generate", data);
  }

  /** Starts an assistance with code; as `generate`. */
  assist(data) {
    return this.#startStream("assist", data);
  }

  /**
   * Goes on with an answer that was begun on another connection of this client id, from its first event: a page that was
   * loaded again, another window. Rejects where the server has lost it.
   */
  async follow({ stream, epoch, commandId }) {
    if (this.#streams.has(stream)) throw new Error(`${stream} is followed already`);
    const answer = new Answer(commandId, { stream, epoch }, (one, wasOver) => this.#leaveStream(one, wasOver));
    const position = new StreamPosition(stream, epoch);
    // The frames before the answer count for nothing.
    position.isRecovering = true;
    this.#streams.set(stream, answer);
    this.#positions.set(stream, position);
    const onAnswer = (message) => {
      if (message.type === "result") this.#resumed({ ...message.data, stream });
    };
    try {
      await this.#ask("resume", position.point(), { onAnswer, isResent: false });
    } catch (error) {
      this.#streams.delete(stream);
      this.#positions.delete(stream);
      throw error;
    }
    return answer;
  }

  /**
   * Watches topics of the server as an operator, in place of those before. After a cut they are watched again, but no actor
   * is traced. Rejects as `command` does.
   */
  async watch(topics, { trace } = {}) {
    const view = new OperatorView([...topics], (one) => this.#leaveView(one));
    this.#view?._end(null);
    this.#view = view;
    try {
      await this.#askToWatch(view, trace === undefined ? { topics } : { topics, trace });
    } catch (error) {
      if (this.#view === view) this.#view = null;
      throw error;
    }
    return view;
  }

  /** After those before; not at all where another view has taken its place meanwhile. */
  #askToWatch(view, data) {
    const asked = this.#watched.then(() => (this.#view === view ? this.#ask("watch", data) : undefined));
    this.#watched = asked.catch(() => {});
    return asked;
  }

  async #leaveView(view) {
    if (this.#view !== view) return;
    this.#view = null;
    view._end(null);
    if (this.#isWelcome) await Promise.race([this.#askToWatch(null, {}).catch(() => {}), pause(CANCEL_MS)]);
  }

  /** Closes the connection for good. */
  async close() {
    this.#isLeaving = true;
    clearTimeout(this.#retry);
    const socket = this.#socket;
    if (socket !== null && socket.readyState < 2) {
      const closed = new Promise((resolve) => socket.addEventListener("close", resolve, { once: true }));
      socket.close(1000);
      await Promise.race([closed, pause(CANCEL_MS)]);
    }
    this.#end(new Disconnected(1000, "the client left"));
  }

  // --- commands -------------------------------------------------------------------------------------

  #nextId() {
    return `${this.#prefix}-${this.#nextNumber++}`;
  }

  async #startStream(type, data) {
    const onDisconnect = this.#options.detach ? { on_disconnect: "detach" } : {};
    let answer = null;
    // Opened where the answer is read, so that no event of the stream can come too early.
    const onAnswer = (message) => {
      if (message.type !== "accepted") return;
      answer = new Answer(message.re, message.data, (one, wasOver) => this.#leaveStream(one, wasOver));
      this.#streams.set(answer.stream, answer);
      this.#positions.set(answer.stream, new StreamPosition(answer.stream, message.data.epoch));
    };
    await this.#ask(type, { ...onDisconnect, ...data }, { onAnswer });
    return answer;
  }

  async #leaveStream(answer, wasOver) {
    if (!this.#streams.delete(answer.stream)) return;
    this.#positions.delete(answer.stream);
    if (!wasOver && this.#ended === null) {
      await Promise.race([this.cancel(answer.commandId).catch(() => {}), pause(CANCEL_MS)]);
      answer._end(new Disconnected(null, "the answer was left"));
    }
  }

  #ask(type, data, { onAnswer = null, isResent = !OPERATOR_COMMANDS.has(type), timeoutMs = ANSWER_MS } = {}) {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    if (OPERATOR_COMMANDS.has(type) && !this.#isWelcome) {
      return Promise.reject(new Disconnected(null, `there is no connection at the moment; ${type} was not sent`));
    }
    if (this.#pending.size >= PENDING_COMMANDS && type !== "hello") {
      const message = `${PENDING_COMMANDS} commands of this program are waiting for their answers; nothing was sent`;
      return Promise.reject(new CommandFailed({ code: "overloaded", message, temporary: true }));
    }
    const id = this.#nextId();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => settle(null, new Disconnected(null, `no answer to ${type} within ${timeoutMs / 1000} seconds`)),
        timeoutMs,
      );
      const settle = (message, failure) => {
        clearTimeout(timer);
        this.#pending.delete(id);
        const mayBeDone = pending.firstSentAt !== null && (isResent || OPERATOR_COMMANDS.has(type)) && !READS.has(type);
        if (failure !== undefined) reject(mayBeDone ? new OutcomeUnknown(type, id, failure) : failure);
        else if (message.type !== "error") resolve(message);
        else if (pending.isAsked) {
          // Whatever it says: it is of the asking.
          reject(new OutcomeUnknown(type, id, new Disconnected(null, message.data.message)));
        } else if (pending.timesSent > 1 && mayBeDone && onAnswer === null && message.data.temporary === true) {
          // True of this sending alone: what became of the first is as unknown as before.
          reject(new OutcomeUnknown(type, id, new Disconnected(null, message.data.message)));
        } else reject(new CommandFailed(message.data));
      };
      const text = JSON.stringify({ type, id, data });
      const pending = { type, text, isResent, onAnswer, settle, size: 0, firstSentAt: null, timesSent: 0, isAsked: false };
      // Sent, a frame that is too large would close the connection for good. A character has three bytes at most.
      const size = 3 * text.length > FRAME_BYTES ? new TextEncoder().encode(text).length : 0;
      if (size > FRAME_BYTES) {
        const message = `a frame may have ${FRAME_BYTES} bytes, this one has ${size}; nothing was sent`;
        clearTimeout(timer);
        reject(new CommandFailed({ code: "too_large", message, temporary: false }));
        return;
      }
      pending.size = size;
      this.#pending.set(id, pending);
      if (this.#isWelcome || type === "hello") this.#send(pending);
    });
  }

  #send(pending) {
    // By the time of day, which runs on while the machine sleeps.
    pending.firstSentAt ??= Date.now();
    pending.timesSent += 1;
    this.#socket.send(pending.text);
  }

  /** What the last connection left without an answer; about what might be carried out twice by now it asks. */
  #sendAgain() {
    const told = this.welcome.limits?.command_memory_seconds;
    const memoryMs = MARGIN * 1000 * (typeof told === "number" ? told : MEMORY_SECONDS);
    for (const pending of [...this.#pending.values()]) {
      if (!pending.isResent) continue;
      const ageMs = pending.firstSentAt === null ? 0 : Date.now() - pending.firstSentAt;
      if (ageMs < memoryMs || READS.has(pending.type)) this.#send(pending);
      else if (told === undefined || pending.size > FRAME_BYTES - ASKING_BYTES) pending.settle(null, new Disconnected(null, FORGOTTEN));
      else {
        // From now on it is not carried out any more; a server that remembers it answers as it did.
        pending.text = JSON.stringify({ ...JSON.parse(pending.text), only_if_known: true });
        pending.isAsked = true;
        this.#send(pending);
      }
    }
  }

  // --- what comes in --------------------------------------------------------------------------------

  #received(socket, text) {
    if (socket !== this.#socket) return;
    this.#heardAt = Date.now();
    this.#expectSound(socket);
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = null;
    }
    if (typeof message?.type !== "string") {
      this.#lost(socket, null, "the server sent something that is not a message of this protocol", false);
      return;
    }
    try {
      this.#dispatch(socket, message);
    } catch (error) {
      this.#lost(socket, null, `the server sent a ${message.type} that is invalid: ${error}`, false);
    }
  }

  #dispatch(socket, message) {
    const isObject = message.data !== null && typeof message.data === "object" && !Array.isArray(message.data);
    if (!isObject && OBJECT_DATA.has(message.type)) throw new TypeError("its data is not an object");
    if (message.type === "ping") {
      socket.send(JSON.stringify({ type: "pong", data: message.data ?? null }));
    } else if (message.type === "going_away") {
      this.goingAway = message.data;
      this.#hintMs = message.data.retry_after_ms;
      this.#tell({ state: "going_away", delayMs: this.#hintMs });
    } else if (message.stream === STATE_STREAM) {
      this.#options.onState?.(message.type, message.data);
    } else if (message.stream !== undefined) {
      this.#receivedOnStream(message);
    } else if (this.#pending.has(message.re)) {
      const pending = this.#pending.get(message.re);
      pending.onAnswer?.(message);
      pending.settle(message);
      const waits = [...this.#pending.values()].some((one) => one.firstSentAt !== null);
      if (pending.type !== "hello" && !waits) this.#wasOfUse = true;
    } else if (WATCHED.has(message.type)) {
      this.#view?._take(message);
    } else if (message.type === "error") {
      this.#hintMs = message.data.retry_after_ms;
    }
  }

  #receivedOnStream(message) {
    const stream = this.#streams.get(message.stream);
    const position = this.#positions.get(message.stream);
    if (stream === undefined) return;
    const wasRecovering = position.isRecovering;
    if (stream._isFull && !wasRecovering) {
      position.isRecovering = true;
      // Without a connection the next hello asks.
      stream._leaveToLog(() => this.#isWelcome && this.#resume(position));
      return;
    }
    let reception;
    try {
      reception = position.take(message);
    } catch (error) {
      stream._end(error);
      return;
    }
    if (reception === "next") stream._take(message);
    else if (reception === "loss" && !wasRecovering) this.#resume(position);
  }

  #resume(position) {
    // The frames before the answer count for nothing.
    const onAnswer = (message) => {
      if (message.type === "result") this.#resumed({ ...message.data, stream: position.stream });
      else this.#streams.get(position.stream)?._end(new Disconnected(null, `events are lost: ${message.data.message}`));
    };
    this.#ask("resume", position.point(), { onAnswer, isResent: false }).catch(() => {});
  }

  #resumed(result, epoch) {
    const stream = this.#streams.get(result.stream);
    const position = this.#positions.get(result.stream);
    if (stream !== undefined && !position.resumed(result, epoch)) stream._takeSnapshot(result);
  }

  // --- connections, one after the other -------------------------------------------------------------

  /** Resolves with the first welcome; what happens later is told by `onChange` and to those who wait. */
  _open() {
    this.#look = setInterval(() => this.#lookWhetherItSlept(), LOOK_MS);
    // What keeps a program running is its connection, or the timer of the next one.
    this.#look.unref?.();
    return new Promise((resolve, reject) => this.#connect({ resolve, reject }));
  }

  /** A timer that comes much too late: the machine slept. Then there is another try at once, or a look at the old one. */
  #lookWhetherItSlept() {
    const passed = Date.now() - this.#lookedAt;
    this.#lookedAt += passed;
    const slept = passed >= LOOK_MS + ASLEEP_MS;
    this.#awakeMs += slept || passed < 0 ? LOOK_MS : passed;
    if (!slept || this.#isLeaving || !this.#options.reconnect) return;
    this.#attempt = 0;
    const socket = this.#socket;
    if (socket === null && this.#retry !== null) {
      clearTimeout(this.#retry);
      this.#retry = null;
      this.#connect(null);
    } else if (this.#isWelcome) {
      const asked = this.#heardAt;
      this.ping().catch(() => {});
      setTimeout(() => {
        if (this.#heardAt === asked) this.#lost(socket, null, "nothing heard since this machine woke");
      }, WAKE_MS).unref?.();
    }
  }

  #connect(first) {
    this.#retry = null;
    let socket;
    try {
      socket = new this.#WebSocket(this.#url, [SUBPROTOCOL]);
    } catch (error) {
      first?.reject(error);
      this.#end(new Disconnected(null, String(error)));
      return;
    }
    this.#socket = socket;
    socket.leanvibeFirst = first;
    this.#silence = setTimeout(() => this.#lost(socket, null, "the server did not answer"), CONNECT_MS);
    socket.addEventListener("open", () => {
      if (socket === this.#socket) this.#sayHello(socket, first);
    });
    socket.addEventListener("message", (event) => this.#received(socket, event.data));
    // Neither browsers nor Node tell a program why there is no connection, so all that it may be is said.
    const isSecured = socket.url.startsWith("wss:");
    const noConnection = isSecured ? "no connection, or a certificate that is not trusted" : "no connection";
    let fault = "";
    socket.addEventListener("close", (event) => this.#lost(socket, event.code, event.reason || fault));
    socket.addEventListener("error", () => {
      if (!this.#isWelcome) fault = noConnection;
      // A close event follows at once; but in Node not where nobody listened.
      setTimeout(() => this.#lost(socket, 1006, fault || "no connection"), 0);
    });
  }

  #expectSound(socket) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(
      () => this.#lost(socket, null, `nothing heard for ${SILENCE_MS / 1000} seconds`),
      SILENCE_MS,
    );
  }

  #sayHello(socket, first) {
    this.#expectSound(socket);
    const { clientId, deviceId, token, agent, events } = this.#options;
    if (events && this.events === null) {
      const position = new StreamPosition(CLIENT_STREAM, UNKNOWN_EPOCH);
      this.#positions.set(CLIENT_STREAM, position);
      this.events = new ClientEvents(position);
      this.#streams.set(CLIENT_STREAM, this.events);
      this.#acknowledging = setInterval(() => this.#acknowledge(), ACKNOWLEDGE_MS);
    }
    const points = [...this.#positions.values()].map((position) => position.point());
    const data = { client_id: clientId, device_id: deviceId, resume: points };
    if (token !== undefined) data.token = token;
    if (agent !== undefined) data.agent = agent;
    const onAnswer = (message) => {
      if (message.type === "welcome") this.#welcomed(socket, message.data, points);
    };
    this.#ask("hello", data, { onAnswer, isResent: false }).then(
      () => first?.resolve(this),
      (error) => {
        if (socket !== this.#socket) return;
        this.#hintMs = error.data?.retry_after_ms ?? this.#hintMs;
        const mayComeBack = first === null && (error.data?.temporary ?? true);
        this.#lost(socket, null, error.message, mayComeBack, error);
      },
    );
  }

  #welcomed(socket, welcome, points) {
    this.welcome = welcome;
    this.goingAway = null;
    this.#hintMs = undefined;
    this.#welcomedAt = Date.now();
    this.#wasOfUse = false;
    const told = new Map((welcome.resumed ?? []).map((one) => [one.stream, one]));
    for (const { stream } of points) {
      this.#resumed(told.get(stream) ?? { stream }, stream === CLIENT_STREAM ? welcome.epoch : undefined);
    }
    this.#isWelcome = true;
    this.#tell({ state: "connected" });
    for (const [kind, data] of Object.entries(welcome.state ?? {})) this.#options.onState?.(kind, data);
    this.#sendAgain();
    if (this.#view !== null && this.#view.topics.length > 0) {
      this.#askToWatch(this.#view, { topics: this.#view.topics }).catch((error) => {
        // Refused on this connection, it will bring nothing more; a lost one is followed by another.
        if (error instanceof CommandFailed) this.#view?._end(error);
      });
    }
  }

  #acknowledge() {
    const seq = this.events.handedOutSeq;
    if (!this.#isWelcome || seq <= this.events.acknowledgedSeq) return;
    this.#socket.send(JSON.stringify({ type: "ack", data: { stream: CLIENT_STREAM, seq } }));
    this.events.acknowledgedSeq = seq;
  }

  #lost(socket, code, reason, mayComeBack = comesBack(code), cause = new Disconnected(code, reason)) {
    if (socket !== this.#socket) return;
    const { leanvibeFirst: first } = socket;
    const wasWelcome = this.#isWelcome;
    this.#socket = null;
    this.#isWelcome = false;
    clearTimeout(this.#silence);
    if (socket.readyState < 2) socket.close();
    for (const pending of [...this.#pending.values()]) {
      if (!pending.isResent) pending.settle(null, cause);
    }
    if (wasWelcome && (this.#wasOfUse || Date.now() - this.#welcomedAt >= STEADY_MS)) {
      // A welcome alone is no success: a server that cuts after each would be asked again without a pause.
      this.#attempt = 0;
      this.#failingSinceMs = this.#awakeMs;
    }
    const delay = delayMs(this.#attempt, this.#hintMs);
    const isFirst = first !== null && !wasWelcome;
    const givesUp = this.#awakeMs + delay - this.#failingSinceMs > (this.#options.giveUpMs ?? Infinity);
    if (isFirst || this.#isLeaving || !this.#options.reconnect || !mayComeBack || givesUp) {
      const final = mayComeBack || isFirst ? cause : refusal(cause);
      first?.reject(final);
      this.#end(final);
      return;
    }
    this.#attempt += 1;
    this.#hintMs = undefined;
    this.#tell({ state: "disconnected", delayMs: delay, cause });
    this.#retry = setTimeout(() => this.#connect(null), delay);
  }

  #end(cause) {
    if (this.#ended !== null) return;
    this.#ended = cause instanceof Disconnected ? cause : new Disconnected(null, cause.message);
    clearTimeout(this.#silence);
    clearTimeout(this.#retry);
    clearInterval(this.#look);
    clearInterval(this.#acknowledging);
    for (const stream of this.#streams.values()) stream._end(this.#ended);
    this.#view?._end(this.#ended);
    for (const pending of [...this.#pending.values()]) pending.settle(null, this.#ended);
    this.#tell({ state: "ended", cause });
  }

  #tell(change) {
    this.#options.onChange?.(change);
  }
}

/** Connects and says hello. Rejects with CommandFailed where the hello is refused, else with Disconnected. */
export function connect(url, options) {
  return new Client(url, options)._open();
}

/** As a sentence, where the server said why it will not have this client. */
function refusal(cause) {
  if (cause instanceof CommandFailed) return new Refused(`${cause.data.message} (${cause.code})`);
  if ([4400, 4401, 4403].includes(cause.code)) return new Refused(cause.reason || "it gives no reason", cause.code);
  return cause;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Ids must differ between two runs of a program: the server remembers them for minutes. */
function randomPrefix() {
  return [...globalThis.crypto.getRandomValues(new Uint8Array(4))].map((one) => one.toString(16).padStart(2, "0")).join("");
}
