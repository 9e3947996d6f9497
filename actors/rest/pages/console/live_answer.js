/** An answer while it comes: its text, where the engine died in it, and what was measured. Told to the page once a frame. */

import { engine, onEngine, server } from "./session.js";
import { signal } from "./vendor/signals.js";

/**
 * @typedef {import("./leanvibe.js").Answer} Answer
 * @typedef {import("./leanvibe.js").Done} Done
 */

/** @type {Set<LiveAnswer>} */
const running = new Set();

onEngine((status) => {
  if (status.state === "ready") return;
  for (const answer of running) answer.engineLost();
});

/** One answer. */
export class LiveAnswer {
  #text = "";
  #isMarked = false;
  #isScheduled = false;
  /** @type {Answer | null} */
  #answer = null;
  #isStopped = false;

  constructor() {
    this.text = signal("");
    this.state = signal(/** @type {"running" | "done" | "cancelled" | "failed"} */ ("running"));
    this.problem = signal("");
    this.done = signal(/** @type {Done | null} */ (null));
    /** Positions in the text at which the engine was lost. */
    this.seams = signal(/** @type {number[]} */ ([]));
  }

  /**
   * Reads to the end. Never rejects: what went wrong is in `problem`.
   * @param {Answer} answer
   */
  async read(answer) {
    this.#answer = answer;
    running.add(this);
    if (engine.value !== null && engine.value.state !== "ready") this.engineLost();
    if (this.#isStopped) this.stop();
    try {
      for await (const piece of answer) this.#add(piece);
      this.done.value = answer.done;
      this.#finish(answer.wasCancelled ? "cancelled" : "done");
    } catch (error) {
      this.problem.value = /** @type {Error} */ (error).message;
      this.#finish("failed");
    }
  }

  /** Ends it; what came until then stays. */
  async stop() {
    this.#isStopped = true;
    if (this.#answer === null) return;
    try {
      // Not by leaving it: that it was cancelled is told on its stream, behind its last text.
      await server().cancel(this.#answer.commandId);
    } catch (error) {
      if (this.state.value === "running") this.problem.value = /** @type {Error} */ (error).message;
    }
  }

  engineLost() {
    if (this.#text === "" || this.#isMarked) return;
    this.#isMarked = true;
    this.seams.value = [...this.seams.value, this.#text.length];
  }

  /** @param {string} piece */
  #add(piece) {
    this.#text += piece;
    this.#isMarked = false;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const show = () => {
      this.#isScheduled = false;
      this.text.value = this.#text;
    };
    // A hidden page has no frames.
    if (document.hidden) setTimeout(show, 250);
    else requestAnimationFrame(show);
  }

  /** @param {"done" | "cancelled" | "failed"} state */
  #finish(state) {
    running.delete(this);
    // What the server counted decides: an engine may be away without having been in this answer.
    if (this.done.value !== null && this.done.value.engine_restarts === 0) this.seams.value = [];
    this.text.value = this.#text;
    this.state.value = state;
  }
}
