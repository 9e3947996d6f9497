/** The connection of this page: who it is to the server, how it comes back, and what is said of it. */

import { entered } from "./entering.js";
import { CommandFailed, connect, delayMs, Refused } from "./leanvibe.js";
import { isKept, recall, remember } from "./storage.js";
import { signal } from "./vendor/signals.js";

/**
 * @typedef {{
 *   state: "connecting" | "connected" | "waiting" | "token", problem?: string
 * }} Connection
 */

/** @type {import("./vendor/signals.js").Signal<Connection>} */
export const connection = signal({ state: "connecting" });
/** What the server last told of its engine: `agent_status`. */
export const engine = signal(/** @type {{state: string, model?: string, running?: number} | null} */ (null));
/** True where the server has newer files than this page and a reload did not help. */
export const isOutdated = signal(false);
/** By how many minutes the clock of this machine is ahead of the server's; 0 where they are near enough. */
export const minutesAhead = signal(0);
/** @type {import("./leanvibe.js").Client | null} */
let client = null;
/** @type {Array<(event: import("./leanvibe.js").ClientEvent) => void>} */
const eventHandlers = [];
/** @type {Array<() => void>} */
const connectHandlers = [];
/** @type {Array<(status: {state: string}) => void>} */
const engineHandlers = [];
/** @type {(() => void) | null} */
let tokenGiven = null;

/** Clocks that are nearer to each other count as one. */
const CLOCK_MINUTES = 3;
const BUNDLE = new URL(import.meta.url).pathname.split("/")[2];

/** The client; throws while there is none, which no page shows a button in. */
export function server() {
  if (client === null) throw new Error("there is no connection to the server");
  return client;
}

/** Who owns what this page shows. */
export function clientId() {
  return recall("local", "client") ?? "local";
}

/** @param {(event: import("./leanvibe.js").ClientEvent) => void} handler */
export function onEvent(handler) {
  eventHandlers.push(handler);
}

/** Called at every connection, the first one too. @param {() => void} handler */
export function onConnected(handler) {
  connectHandlers.push(handler);
}

/** @param {(status: {state: string}) => void} handler */
export function onEngine(handler) {
  engineHandlers.push(handler);
}

/**
 * What a person entered: tried at once.
 * @param {string} token
 * @param {string} name
 * @param {boolean} isKept in this browser, beyond this window
 */
export function giveToken(token, name, isKept) {
  remember("local", "client", name || null);
  remember("session", "token", token || null);
  remember("local", "token", isKept && token ? token : null);
  connection.value = { state: "connecting" };
  tokenGiven?.();
}

/** The token of this window, for what is asked over HTTP. */
export function token() {
  return recall("session", "token") ?? recall("local", "token");
}

function deviceId() {
  const known = recall("local", "device");
  if (known !== null) return known;
  const made = `console-${[...crypto.getRandomValues(new Uint8Array(4))].map((one) => one.toString(16).padStart(2, "0")).join("")}`;
  remember("local", "device", made);
  return made;
}

/** Takes `?client=` out of the address, which the greeting of the server has in it, and remembers it. */
function readAddress() {
  const given = new URLSearchParams(location.search).get("client");
  if (given === null) return;
  remember("local", "client", given || null);
  history.replaceState(null, "", location.pathname + location.hash);
}

/** Connects for as long as this page is open. */
export async function start() {
  await entered;
  readAddress();
  for (let attempt = 0; ; attempt++) {
    /** @type {Error} */
    let cause;
    try {
      cause = await untilItEnds();
      attempt = 0;
    } catch (error) {
      cause = /** @type {Error} */ (error);
    }
    client = null;
    if (cause instanceof Refused || (cause instanceof CommandFailed && !cause.data.temporary)) {
      connection.value = { state: "token", problem: token() === null && cause instanceof CommandFailed ? "" : cause.message };
      await new Promise((resolve) => (tokenGiven = () => resolve(undefined)));
      attempt = -1;
    } else {
      connection.value = { state: "waiting", problem: cause.message };
      await new Promise((resolve) => setTimeout(resolve, delayMs(attempt)));
    }
  }
}

/** One client from its hello to its end; resolves with the reason. */
async function untilItEnds() {
  const url = new URL("/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  /** @type {(cause: Error) => void} */
  let ended = () => {};
  const end = /** @type {Promise<Error>} */ (new Promise((resolve) => (ended = resolve)));
  const made = await connect(url.href, {
    clientId: clientId(),
    deviceId: deviceId(),
    token: token() ?? undefined,
    agent: "console",
    events: true,
    detach: true,
    onChange: (change) => {
      if (change.state === "disconnected") connection.value = { state: "waiting", problem: change.cause?.message };
      else if (change.state === "ended") ended(change.cause ?? new Error("the connection ended"));
      // The first time there is no client yet; that is told below.
      else if (change.state === "connected" && client !== null) connected();
    },
    onState: (kind, data) => {
      if (kind !== "agent_status") return;
      engine.value = /** @type {{state: string}} */ (/** @type {unknown} */ (data));
      for (const handler of engineHandlers) handler(engine.value);
    },
  });
  client = made;
  followEvents(made);
  connected();
  return end;
}

function connected() {
  connection.value = { state: "connected" };
  for (const handler of connectHandlers) handler();
  reloadIfOld();
}

/** @param {import("./leanvibe.js").Client} made */
async function followEvents(made) {
  try {
    for await (const event of made.events ?? []) for (const handler of eventHandlers) handler(event);
  } catch {
    // The connection ended for good; `start` makes another one.
  }
}

/** A page of an older server is loaded again, once; should that not help it says so. */
async function reloadIfOld() {
  let bundle, time;
  const asked = Date.now();
  try {
    ({ bundle, time_ms: time } = await (await fetch("/console/version")).json());
  } catch {
    // The server is away again; the next connection asks anew.
    return;
  }
  const told = Date.now();
  if (typeof time === "number" && told >= asked) {
    const ahead = Math.round(((asked + told) / 2 - time) / 60_000);
    minutesAhead.value = Math.abs(ahead) < CLOCK_MINUTES ? 0 : ahead;
  }
  if (typeof bundle !== "string" || bundle === BUNDLE) return;
  const wasTried = recall("session", "reloaded") === bundle;
  remember("session", "reloaded", bundle);
  // Where nothing outlives a reload it would never end.
  if (wasTried || !isKept("session", "reloaded")) isOutdated.value = true;
  else location.reload();
}
