/** The server's conversations as this page has them, and what is done with them. */

import { CommandFailed, OutcomeUnknown } from "./leanvibe.js";
import { LiveAnswer } from "./live_answer.js";
import { connection, onConnected, onEvent, server } from "./session.js";
import { recallObject, remember } from "./storage.js";
import { batch, signal } from "./vendor/signals.js";

/**
 * @typedef {import("./leanvibe.js").Conversation} Conversation
 * @typedef {{role: "user" | "assistant", key: string, content: string, isPartial: boolean, live: LiveAnswer | null}} ShownTurn
 */

const PAGE_TURNS = 100;
/** Pages of names that are read; the list says where there are more. */
const LIST_PAGES = 10;

/** Newest first. */
export const conversations = signal(/** @type {Conversation[]} */ ([]));
export const hasMoreConversations = signal(false);
/** Name of the open one; empty while a new one is begun. */
export const current = signal("");
export const turns = signal(/** @type {ShownTurn[]} */ ([]));
/** How many older turns could be loaded. */
export const olderTurns = signal(0);
/** What went wrong, as a sentence. */
export const problem = signal("");
/** Answers that this page reads, by conversation. @type {import("./vendor/signals.js").Signal<{[name: string]: LiveAnswer}>} */
export const answers = signal(/** @type {{[name: string]: LiveAnswer}} */ ({}));
/** Whether the open conversation is answered to somebody else. */
export const isAnsweredElsewhere = signal(false);
let firstNumber = 0;
let opening = 0;
let made = 0;

onConnected(() => {
  refreshList();
  if (current.value !== "" && !(current.value in answers.value)) open(current.value);
});

onEvent((event) => {
  if (event.type === "snapshot") refreshList();
  if (event.type !== "ai_response" || typeof event.data.conversation !== "string") return;
  refreshList();
  const isOurs = turns.value.some((one) => one.live !== null);
  if (event.data.conversation === current.value && !isOurs) open(current.value);
});

/** Runs something that asks the server; what goes wrong becomes a sentence. @param {() => Promise<void>} work */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    const isCut = !(error instanceof CommandFailed) && connection.value.state !== "connected";
    problem.value = isCut ? "" : /** @type {Error} */ (error).message;
  }
}

export function refreshList() {
  return attempt(async () => {
    /** @type {Conversation[]} */
    const found = [];
    /** @type {string | null} */
    let after = null;
    for (let page = 0; page < LIST_PAGES; page++) {
      /** @type {import("./leanvibe.js").ConversationPage} */
      const answer = await server().command("conversation_list", { after });
      found.push(...answer.conversations);
      after = answer.next ?? null;
      if (after === null) break;
    }
    found.sort((one, other) => (one.updated < other.updated ? 1 : one.updated > other.updated ? -1 : 0));
    batch(() => {
      conversations.value = found;
      hasMoreConversations.value = after !== null;
    });
  });
}

/** Shows an empty conversation; it gets its name with the first question. */
export function begin() {
  opening += 1;
  batch(() => {
    current.value = "";
    turns.value = [];
    olderTurns.value = 0;
    problem.value = "";
    isAnsweredElsewhere.value = false;
  });
}

/** Shows a conversation with its last turns, and goes on with an answer that runs. @param {string} name */
export function open(name) {
  const number = ++opening;
  if (current.value !== name) {
    batch(() => {
      current.value = name;
      turns.value = [];
      olderTurns.value = 0;
      isAnsweredElsewhere.value = false;
    });
  }
  problem.value = "";
  return attempt(async () => {
    const { conversation: about } = await server().command("conversation_get", { conversation: name, limit: 1 });
    const last = about.forgotten_turns + about.turns;
    const after = Math.max(about.forgotten_turns, last - PAGE_TURNS);
    const found = await readTurns(name, after);
    if (number !== opening) return;
    firstNumber = after;
    const live = answers.value[name] ?? null;
    batch(() => {
      turns.value = [...found, ...(live === null ? [] : [liveTurn(live)])];
      olderTurns.value = after - about.forgotten_turns;
    });
    if (live === null) await goOn(name, about);
  });
}

/** Loads the turns before those that are shown. */
export function showOlder() {
  const [name, number] = [current.value, opening];
  return attempt(async () => {
    const after = firstNumber - Math.min(PAGE_TURNS, olderTurns.value);
    const found = (await readTurns(name, after)).slice(0, firstNumber - after);
    if (number !== opening) return;
    olderTurns.value -= firstNumber - after;
    firstNumber = after;
    turns.value = [...found, ...turns.value];
  });
}

/**
 * @param {string} name
 * @param {number} after
 */
async function readTurns(name, after) {
  /** @type {ShownTurn[]} */
  const found = [];
  /** @type {number | null} */
  let next = after;
  while (next !== null && found.length < 2 * PAGE_TURNS) {
    /** @type {import("./leanvibe.js").ConversationTurns} */
    const page = await server().command("conversation_get", { conversation: name, after: next });
    for (const one of page.turns) {
      found.push({ role: one.role, key: `t${one.number}`, content: one.content, isPartial: one.is_partial, live: null });
    }
    next = page.next ?? null;
  }
  return found;
}

/** @param {LiveAnswer} live @returns {ShownTurn} */
function liveTurn(live) {
  return { role: "assistant", key: `live${++made}`, content: "", isPartial: false, live };
}

/**
 * An answer that ran when this page was left: it is read on from its beginning.
 * @param {string} name
 * @param {Conversation} about
 */
async function goOn(name, about) {
  const point = recallObject("local", `stream.${name}`);
  if (about.running === undefined) {
    remember("local", `stream.${name}`, null);
    isAnsweredElsewhere.value = false;
    return;
  }
  if (point === null || point.commandId !== about.running) {
    isAnsweredElsewhere.value = true;
    return;
  }
  const answer = await server().follow(/** @type {{stream: string, epoch: string, commandId: string}} */ (/** @type {unknown} */ (point)));
  const live = new LiveAnswer();
  answers.value = { ...answers.value, [name]: live };
  if (current.value === name) turns.value = [...turns.value, liveTurn(live)];
  readToEnd(name, live, answer);
}

/**
 * Asks; a new conversation gets a name out of its first words. Resolves with whether the server took it.
 * @param {string} text
 * @returns {Promise<boolean>}
 */
export async function ask(text) {
  const isNew = current.value === "";
  const name = isNew ? nameFor(text) : current.value;
  const live = new LiveAnswer();
  const before = turns.value;
  batch(() => {
    problem.value = "";
    current.value = name;
    answers.value = { ...answers.value, [name]: live };
    turns.value = [...before, { role: "user", key: `asked${++made}`, content: text, isPartial: false, live: null }, liveTurn(live)];
  });
  try {
    const defaults = server().welcome?.answer_defaults;
    const answer = await server().generate({
      messages: [{ role: "user", content: text }],
      conversation: name,
      on_disconnect: "detach",
      ...(defaults && {
        temperature: defaults.temperature,
        top_p: defaults.top_p,
        repetition_penalty: defaults.repetition_penalty,
        max_tokens_if_room: defaults.max_tokens,
      }),
    });
    const { stream, epoch, commandId } = answer;
    remember("local", `stream.${name}`, JSON.stringify({ stream, epoch, commandId }));
    readToEnd(name, live, answer);
    refreshList();
    return true;
  } catch (error) {
    forgetAnswer(name, live);
    if (error instanceof OutcomeUnknown) {
      // What the server has is shown, whether it took the question or not.
      await open(name);
    } else if (current.value === name) {
      turns.value = before;
      if (isNew) current.value = "";
    }
    problem.value = /** @type {Error} */ (error).message;
    return false;
  }
}

/**
 * @param {string} name
 * @param {LiveAnswer} live
 * @param {import("./leanvibe.js").Answer} answer
 */
async function readToEnd(name, live, answer) {
  await live.read(answer);
  if (recallObject("local", `stream.${name}`)?.stream === answer.stream) remember("local", `stream.${name}`, null);
  forgetAnswer(name, live);
  refreshList();
}

/**
 * It is over; where it is shown it stays as it is.
 * @param {string} name
 * @param {LiveAnswer} live
 */
function forgetAnswer(name, live) {
  if (answers.value[name] !== live) return;
  const { [name]: _, ...others } = answers.value;
  answers.value = others;
}

/** Forgets a conversation for good. @param {string} name */
export function forget(name) {
  return attempt(async () => {
    await server().command("conversation_delete", { conversation: name });
    remember("local", `stream.${name}`, null);
    if (current.value === name) begin();
    await refreshList();
  });
}

/** Letters, digits and dashes of the first words, and something that no other conversation has. @param {string} text */
function nameFor(text) {
  const words = text.normalize("NFKD").toLowerCase().match(/[a-z0-9]+/g) ?? [];
  let name = "";
  for (const word of words.slice(0, 6)) {
    if (name.length + word.length < 40) name += `${word}-`;
  }
  const tail = [...crypto.getRandomValues(new Uint8Array(3))].map((one) => one.toString(16).padStart(2, "0")).join("");
  return `${name || "chat-"}${tail}`;
}
