/** The server's conversations as this page has them, and what is done with them. */

import { CommandFailed, OutcomeUnknown } from "./leanvibe.js";
import { LiveAnswer } from "./live_answer.js";
import { connection, onConnected, onEvent, server } from "./session.js";
import { recallObject, remember } from "./storage.js";
import { batch, signal } from "./vendor/signals.js";

/**
 * @typedef {import("./leanvibe.js").Conversation} Conversation
 * @typedef {import("./leanvibe.js").Turn} Turn
 * @typedef {{
 *   role: "user" | "assistant", key: string, content: string, isPartial: boolean, live: LiveAnswer | null,
 *   number: number | null, parent: number, ways: number[], steps: string[]
 * }} ShownTurn `number` is null of a turn that the server has not told yet; `ways` are the turns in its place, empty where it is alone
 * @typedef {{parent?: number, answers?: number}} Place
 */

const PAGE_TURNS = 100;
/** Turns that are shown at once; a longer conversation is read in parts. */
const MOST_TURNS = 300;
/** Behind every turn. */
const END = 2 ** 53;
const COMMANDS = 100;
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
/** Whether the newest turns are left out, for older ones that are read. */
export const isBehind = signal(false);
/** What went wrong, as a sentence. */
export const problem = signal("");
/** Answers that this page reads, by conversation. @type {import("./vendor/signals.js").Signal<{[name: string]: LiveAnswer}>} */
export const answers = signal(/** @type {{[name: string]: LiveAnswer}} */ ({}));
/** Whether the open conversation is answered to somebody else. */
export const isAnsweredElsewhere = signal(false);
/** Whether the server answers in the open conversation to somebody whom this page does not know yet. */
export const isTaken = signal(false);
let firstNumber = 0;
/** Ids of commands whose answers this page has read. @type {Set<string>} */
const readHere = new Set();
let opening = 0;
let made = 0;

onConnected(() => {
  refreshList();
  if (current.value !== "" && !(current.value in answers.value)) open(current.value);
});

onEvent((event) => {
  if (event.type === "snapshot") refreshList();
  if ((event.type !== "ai_response" && event.type !== "conversation_changed") || typeof event.data.conversation !== "string") return;
  refreshList();
  const name = event.data.conversation;
  if (name !== current.value || name in answers.value || readHere.has(/** @type {string} */ (event.data.id))) return;
  if (event.data.change === "deleted") begin();
  // Who reads older turns goes on with them.
  else if (!isBehind.value) open(name);
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
    isBehind.value = false;
    problem.value = "";
    isAnsweredElsewhere.value = false;
    isTaken.value = false;
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
    const page = await server().command("conversation_get", { conversation: name, before: END, limit: PAGE_TURNS });
    if (number !== opening) return;
    const live = answers.value[name] ?? null;
    batch(() => {
      isBehind.value = false;
      isTaken.value = live === null && page.conversation.running !== undefined;
      turns.value = [...shown(page), ...(live === null ? [] : [liveTurn(live)])];
    });
    if (live === null) await goOn(name, page.conversation);
  });
}

/** Loads the turns before those that are shown. */
export function showOlder() {
  const [name, number] = [current.value, opening];
  return attempt(async () => {
    const page = await server().command("conversation_get", { conversation: name, before: firstNumber, limit: PAGE_TURNS });
    if (number !== opening) return;
    const all = [...shown(page), ...turns.value];
    batch(() => {
      turns.value = all.slice(0, MOST_TURNS);
      if (all.length > MOST_TURNS) isBehind.value = true;
    });
  });
}

/**
 * A page as it is shown; what is older is known from then on.
 * @param {import("./leanvibe.js").ConversationTurns} page
 */
function shown(page) {
  firstNumber = page.previous ?? 0;
  olderTurns.value = page.older ?? 0;
  return page.turns.map(shownTurn);
}

/** @param {Turn} one @returns {ShownTurn} */
function shownTurn(one) {
  return {
    role: one.role, key: `t${one.number}`, content: one.content, isPartial: one.is_partial, live: null,
    number: one.number, parent: one.parent ?? 0, ways: one.ways ?? [], steps: one.steps ?? [],
  };
}

/** @param {LiveAnswer} live @returns {ShownTurn} */
function liveTurn(live) {
  return { role: "assistant", key: `live${++made}`, content: "", isPartial: false, live, number: null, parent: 0, ways: [], steps: [] };
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
  if (current.value === name) {
    batch(() => {
      isAnsweredElsewhere.value = false;
      isTaken.value = false;
      turns.value = [...turns.value, liveTurn(live)];
    });
  }
  readToEnd(name, live, answer);
}

/**
 * Asks behind what is shown; a new conversation gets a name out of its first words. Resolves with whether the server took it.
 * @param {string} text
 * @returns {Promise<boolean>}
 */
export async function ask(text) {
  // Behind the last turn of all, which is not among those that are shown.
  if (isBehind.value) await open(current.value);
  if (isBehind.value) return false;
  const last = turns.value.at(-1)?.number ?? null;
  // Behind what this page shows, whichever way another device has chosen meanwhile.
  return send(text, turns.value, last === null ? {} : { parent: last });
}

/**
 * Says a turn of the user again in other words, as another way beside the first one.
 * @param {ShownTurn} turn
 * @param {string} text
 */
export function sayAgain(turn, text) {
  const place = turns.value.indexOf(turn);
  return send(text, turns.value.slice(0, place), { parent: turn.parent });
}

/** Has the question before an answer answered again, beside it. @param {ShownTurn} turn */
export function answerAgain(turn) {
  const place = turns.value.findLastIndex((one, index) => one.role === "user" && index < turns.value.indexOf(turn));
  const asked = turns.value[place];
  if (asked === undefined || asked.number === null) return Promise.resolve(false);
  return send(null, turns.value.slice(0, place + 1), { answers: asked.number });
}

/** Has the last question answered, which has no answer. */
export function answerLast() {
  const number = turns.value.at(-1)?.number ?? null;
  return number === null ? Promise.resolve(false) : send(null, turns.value, { answers: number });
}

/** Shows the way that goes through a turn, here and on every device. @param {number} number */
export function choose(number) {
  const name = current.value;
  return attempt(async () => {
    await server().command("conversation_choose", { conversation: name, turn: number });
    if (current.value === name) await open(name);
  });
}

/**
 * @param {string | null} text null where a turn is answered that is there
 * @param {ShownTurn[]} before what stays above it
 * @param {Place} place
 * @returns {Promise<boolean>}
 */
async function send(text, before, place) {
  const isNew = current.value === "";
  const name = isNew ? nameFor(text ?? "") : current.value;
  const live = new LiveAnswer();
  const was = turns.value;
  // What is being read of it was asked for before this.
  opening += 1;
  /** @type {ShownTurn[]} */
  const asked = text === null ? [] : [
    { role: "user", key: `asked${++made}`, content: text, isPartial: false, live: null, number: null, parent: 0, ways: [], steps: [] },
  ];
  batch(() => {
    problem.value = "";
    isBehind.value = false;
    current.value = name;
    answers.value = { ...answers.value, [name]: live };
    turns.value = [...before, ...asked, liveTurn(live)];
  });
  try {
    const defaults = server().welcome?.answer_defaults;
    const answer = await server().generate({
      ...(text !== null && { messages: [{ role: "user", content: text }] }),
      conversation: name,
      ...place,
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
      turns.value = was;
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
  readHere.add(answer.commandId);
  for (const one of readHere) if (readHere.size > COMMANDS) readHere.delete(one);
  await live.read(answer);
  if (recallObject("local", `stream.${name}`)?.stream === answer.stream) remember("local", `stream.${name}`, null);
  forgetAnswer(name, live);
  refreshList();
  await attempt(() => takeNumbers(name));
}

/**
 * What was shown before it was stored is told its number and what stands beside it; it stays where it is on the page.
 * @param {string} name
 */
async function takeNumbers(name) {
  const number = opening;
  const page = await server().command("conversation_get", { conversation: name, before: END, limit: PAGE_TURNS });
  if (number !== opening || current.value !== name || name in answers.value) return;
  // An answer that came to nothing is shown and not stored.
  const stored = turns.value.filter((one) => one.live === null || one.live.text.value !== "");
  const offset = page.turns.length - stored.length;
  turns.value = turns.value.map((one) => {
    const told = page.turns[offset + stored.indexOf(one)];
    if (!stored.includes(one) || told === undefined || told.role !== one.role) return one;
    return { ...one, number: told.number, parent: told.parent ?? 0, ways: told.ways ?? [], steps: told.steps ?? [] };
  });
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
