/** The page where people talk with the model. */

import {
  answerAgain, answerLast, answers, ask, begin, choose, conversations, current, forget, hasMoreConversations, isAnsweredElsewhere, isBehind, isTaken,
  olderTurns, open, problem, sayAgain, showOlder, turns,
} from "./conversations.js";
import { html } from "./html.js";
import { Markdown } from "./markdown.js";
import { takeSentences } from "./sentences.js";
import { connection } from "./session.js";
import { recall, remember } from "./storage.js";
import { useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact_hooks.js";

const SEAM = "The engine's process died in the part above and was started again. The answer went on with the next token.";
/** As near to the end as counts as reading along, in pixels. */
const NEAR = 80;
/** Conversations that are listed at once. */
const LISTED = 100;
/** Sentences that stay for screen readers. */
const SPOKEN = 20;

/**
 * @typedef {import("./live_answer.js").LiveAnswer} LiveAnswer
 * @typedef {import("./conversations.js").ShownTurn} ShownTurn
 */

/** @param {{name: string, go: (path: string) => void}} props `name` of the conversation in the address, empty for a new one */
export function Chat({ name, go }) {
  useEffect(() => {
    if (name === current.value) return;
    if (name === "") begin();
    else open(name);
  }, [name]);
  useEffect(() => {
    if (current.value !== "" && name === "") go(`chat/${current.value}`);
  }, [current.value]);
  return html`<div class="chat">
    <${List} go=${go} />
    <section class="talk" aria-label="conversation">
      <${Turns} />
      <${Composer} />
    </section>
  </div>`;
}

/** @param {{go: (path: string) => void}} props */
function List({ go }) {
  const [most, setMost] = useState(LISTED);
  return html`<details class="list" open=${matchMedia("(min-width: 800px)").matches}>
    <summary>Conversations</summary>
    <button type="button" class="new" onClick=${() => { begin(); go("chat"); }}>New conversation</button>
    <ul>${conversations.value.slice(0, most).map((one) => html`<${Entry} key=${one.conversation} name=${one.conversation} isRunning=${one.running !== undefined} go=${go} />`)}</ul>
    ${conversations.value.length > most && html`<button type="button" class="quiet" onClick=${() => setMost(most + LISTED)}>Show more (${conversations.value.length - most})</button>`}
    ${conversations.value.length <= most && hasMoreConversations.value && html`<p class="note">There are more than are listed here.</p>`}
  </details>`;
}

/** @param {{name: string, isRunning: boolean, go: (path: string) => void}} props */
function Entry({ name, isRunning, go }) {
  const [isSure, setSure] = useState(false);
  const remove = async () => {
    if (!isSure) {
      setSure(true);
      return;
    }
    const wasOpen = current.value === name;
    await forget(name);
    setSure(false);
    if (wasOpen && current.value === "") go("chat");
  };
  return html`<li>
    <a href=${`#/chat/${name}`} aria-current=${current.value === name ? "page" : undefined}>${name}${isRunning && html` <span class="running">answering</span>`}</a>
    <button type="button" class=${isSure ? "danger" : "quiet"} onClick=${remove} onBlur=${() => setSure(false)}
      aria-label=${isSure ? `Delete ${name} for good` : `Delete ${name}`}>${isSure ? "Delete for good" : "Delete"}</button>
  </li>`;
}

function Turns() {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const isAlong = useRef(true);
  const shown = turns.value;
  const last = shown.at(-1);
  const follow = () => {
    const area = place.current;
    if (area !== null && isAlong.current) area.scrollTop = area.scrollHeight;
  };
  useLayoutEffect(() => {
    isAlong.current = true;
    follow();
  }, [current.value, shown.length]);
  const scrolled = () => {
    const area = place.current;
    if (area !== null) isAlong.current = area.scrollHeight - area.scrollTop - area.clientHeight < NEAR;
  };
  return html`<div class="turns" ref=${place} onScroll=${scrolled} tabindex="0" role="region" aria-label="turns">
    ${olderTurns.value > 0 && html`<button type="button" disabled=${current.value in answers.value} onClick=${showOlder}>Show older turns (${olderTurns.value})</button>`}
    ${shown.length === 0 && current.value === "" && html`<p class="note">Ask something. The conversation is kept on the server, and an answer goes on when this page is closed.</p>`}
    ${shown.map((turn) => html`<${Turn} key=${turn.key} turn=${turn} follow=${follow} />`)}
    ${isBehind.value && html`<p class="note">The newest turns are left out here. <button type="button" onClick=${() => open(current.value)}>Show the newest turns</button></p>`}
    ${!isBehind.value && last?.role === "user" && last.number !== null && canAsk() && html`<button type="button" class="again" onClick=${answerLast}>Answer this question</button>`}
    ${isAnsweredElsewhere.value && html`<p class="note" role="status">This conversation is being answered to another device; the answer will be shown here when it is complete.</p>`}
  </div>`;
}

/** @param {{turn: ShownTurn, follow: () => void}} props */
function Turn({ turn, follow }) {
  if (turn.role === "user") return html`<${Said} turn=${turn} />`;
  if (turn.live !== null) return html`<div><${Live} live=${turn.live} follow=${follow} /><${Under} turn=${turn} /></div>`;
  return html`<div><article class="turn assistant" aria-label="answer">
    <${Markdown} text=${turn.content} isOver=${true} />
    ${turn.isPartial && html`<p class="note">This answer was ended before it was complete.</p>`}
  </article><${Under} turn=${turn} /></div>`;
}

/** What the person said, and a form to say it again. @param {{turn: ShownTurn}} props */
function Said({ turn }) {
  const [draft, setDraft] = useState(/** @type {string | null} */ (null));
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useEffect(() => field.current?.focus(), [draft === null]);
  const send = async () => {
    const text = (draft ?? "").trim();
    if (text === "" || !canAsk()) return;
    setDraft(null);
    // What was refused may be sent again.
    if (!(await sayAgain(turn, text))) setDraft(text);
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") setDraft(null);
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  if (draft !== null) {
    return html`<form class="turn user edit" aria-label="your words" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); send(); }}>
      <textarea ref=${field} rows="3" aria-label="In other words" value=${draft} onKeyDown=${keys}
        onInput=${(/** @type {Event} */ event) => setDraft(/** @type {HTMLTextAreaElement} */ (event.target).value)}></textarea>
      <div class="buttons"><button type="submit" class="main" disabled=${!canAsk() || draft.trim() === ""}>Ask this</button>
        <button type="button" onClick=${() => setDraft(null)}>Keep as it was</button></div>
    </form>`;
  }
  return html`<div><article class="turn user" aria-label="you"><p class="verbatim">${turn.content}</p></article>
    <${Under} turn=${turn} edit=${() => setDraft(turn.content)} /></div>`;
}

function canAsk() {
  return connection.value.state === "connected" && !(current.value in answers.value) && !isTaken.value;
}

/** What can be done with a turn that the server has, and what stands beside it. @param {{turn: ShownTurn, edit?: () => void}} props */
function Under({ turn, edit }) {
  const [known, place] = [turn.number, turn.ways.indexOf(turn.number ?? 0)];
  const isBusy = !canAsk();
  const go = (/** @type {number} */ step) => choose(turn.ways[place + step] ?? 0);
  return html`<div class="under">
    ${turn.steps.length > 0 && html`<ul class="steps" aria-label="what happened then">${turn.steps.map((line) => html`<li>${line}</li>`)}</ul>`}
    ${(known !== null || (turn.live !== null && !isBusy)) && html`<div class="ways">
      ${place >= 0 && html`<span role="group" aria-label="ways from here">
        <button type="button" class="quiet" aria-label="Way before this one" disabled=${isBusy || place === 0} onClick=${() => go(-1)}>‹</button>
        <span class="count">${place + 1} of ${turn.ways.length}</span>
        <button type="button" class="quiet" aria-label="Way after this one" disabled=${isBusy || place === turn.ways.length - 1} onClick=${() => go(1)}>›</button>
      </span>`}
      ${edit !== undefined && html`<button type="button" class="quiet edit" disabled=${isBusy} onClick=${edit}>Edit</button>`}
      ${edit === undefined && html`<button type="button" class="quiet again" disabled=${isBusy} onClick=${() => answerAgain(turn)}>Answer again</button>`}
    </div>`}
  </div>`;
}

/** @param {{live: LiveAnswer, follow: () => void}} props */
function Live({ live, follow }) {
  const text = live.text.value;
  const state = live.state.value;
  useLayoutEffect(follow, [text, state]);
  return html`<article class="turn assistant" aria-label="answer" data-state=${state} aria-busy=${state === "running"}>
    ${text === "" && state === "running" ? html`<p class="note">…</p>` : html`<${Markdown} text=${text} isOver=${state !== "running"} seams=${live.seams.value} remark=${SEAM} />`}
    ${state === "cancelled" && html`<p class="note">You stopped this answer.</p>`}
    ${state === "failed" && html`<p class="problem" role="alert">The answer failed: ${live.problem.value}</p>`}
    <${Figures} live=${live} />
    <${Spoken} live=${live} />
  </article>`;
}

/** What the server measured of an answer; nothing else. @param {{live: LiveAnswer}} props */
function Figures({ live }) {
  const done = live.done.value;
  if (done === null) return null;
  const { timings, usage } = done;
  const facts = [
    timings.tokens_per_second !== undefined && `${timings.tokens_per_second.toFixed(1)} tokens/s`,
    timings.first_token_ms !== undefined && `first token after ${milliseconds(timings.first_token_ms)}`,
    `${usage.completion_tokens} tokens`,
    usage.cached_tokens > 0 && `${usage.cached_tokens} of ${usage.prompt_tokens} prompt tokens cached`,
    usage.dropped_turns !== undefined && `${usage.dropped_turns} older turns had no room`,
    done.confidence !== undefined && `confidence ${done.confidence.toFixed(2)}, not calibrated`,
    done.finish_reason === "length" && "ended at its longest",
    done.engine_restarts > 0 && `engine started again ${done.engine_restarts} ${done.engine_restarts === 1 ? "time" : "times"} within it`,
  ];
  return html`<p class="figures">${facts.filter(Boolean).join(" · ")}</p>`;
}

/** @param {number} time */
function milliseconds(time) {
  return time < 1000 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(1)} s`;
}

/** Each sentence once, when it is complete. @param {{live: LiveAnswer}} props */
function Spoken({ live }) {
  const told = useRef(0);
  const lines = useRef(/** @type {{key: number, text: string}[]} */ ([]));
  const { sentences, next } = takeSentences(live.text.value, told.current, live.state.value !== "running");
  sentences.forEach((text, index) => lines.current.push({ key: told.current + index / (sentences.length + 1), text }));
  told.current = next;
  lines.current = lines.current.slice(-SPOKEN);
  return html`<div class="unseen" role="log" aria-live="polite" aria-label="answer as it comes">${lines.current.map((one) => html`<p key=${one.key}>${one.text}</p>`)}</div>`;
}

function Composer() {
  const [draft, setDraft] = useState(recall("session", "draft") ?? "");
  const running = answers.value[current.value];
  const isConnected = connection.value.state === "connected";
  const change = (/** @type {string} */ text) => {
    setDraft(text);
    remember("session", "draft", text || null);
  };
  const send = async () => {
    const text = draft.trim();
    if (text === "" || running !== undefined || !isConnected) return;
    change("");
    if (!(await ask(text))) change(text);
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    // A person who writes Japanese ends a word by Enter.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  const isFree = isConnected && running === undefined;
  return html`<form class="composer" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); send(); }}>
    ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    <label for="question" class="unseen">Question</label>
    <textarea id="question" rows="3" placeholder="Ask something; Enter sends, Shift+Enter begins a line" value=${draft}
      onInput=${(/** @type {Event} */ event) => change(/** @type {HTMLTextAreaElement} */ (event.target).value)} onKeyDown=${keys}></textarea>
    <div class="buttons">
      <button type="submit" class="main" disabled=${!isFree || draft.trim() === ""}>Ask</button>
      ${running !== undefined && html`<button type="button" onClick=${() => running.stop()}>Stop</button>`}
    </div>
  </form>`;
}
