/** What the pages of operators show of the server: one watch for the page that is open, and none while none is. */

import { CommandFailed } from "./leanvibe.js";
import { connection, server } from "./session.js";
import { useEffect } from "./vendor/preact_hooks.js";
import { signal } from "./vendor/signals.js";

/**
 * @typedef {import("./leanvibe.js").Topic} Topic
 * @typedef {import("./leanvibe.js").TopicItems} TopicItems
 * @typedef {import("./leanvibe.js").TopicMessages} TopicMessages
 */

/** @template T @param {T} value @returns {import("./vendor/signals.js").Signal<T>} */
const kept = (value) => signal(value);

export const tree = kept(/** @type {ReadonlyMap<string, TopicItems["tree"]>} */ (new Map()));
export const treeState = kept(/** @type {TopicMessages["tree"] | null} */ (null));
export const metrics = kept(/** @type {ReadonlyMap<string, TopicItems["metrics"]>} */ (new Map()));
export const requests = kept(/** @type {ReadonlyMap<string, TopicItems["requests"]>} */ (new Map()));
export const models = kept(/** @type {ReadonlyMap<string, TopicItems["models"]>} */ (new Map()));
export const modelsState = kept(/** @type {TopicMessages["models"] | null} */ (null));
export const deadLetters = kept(/** @type {ReadonlyMap<string, TopicItems["dead_letters"]>} */ (new Map()));
export const deadLettersState = kept(/** @type {TopicMessages["dead_letters"] | null} */ (null));
export const clients = kept(/** @type {ReadonlyMap<string, TopicItems["clients"]>} */ (new Map()));
export const trace = kept(/** @type {readonly import("./leanvibe.js").TraceRecordData[]} */ ([]));
export const traceState = kept(/** @type {TopicMessages["trace"] | null} */ (null));
/** Why nothing is shown. */
export const problem = kept("");

/** What a failure is called on the page. @param {unknown} error */
export function sentence(error) {
  if (error instanceof CommandFailed && error.code === "forbidden") return "This needs a token with the role operator.";
  return error instanceof CommandFailed ? error.data.message : error instanceof Error ? error.message : String(error);
}

/**
 * Watches topics for as long as the page that calls it is shown.
 * @param {Topic[]} topics
 * @param {string} [traced] path of an actor
 */
export function useTopics(topics, traced = "") {
  const isConnected = connection.value.state === "connected";
  useEffect(() => {
    if (!isConnected) return undefined;
    let isOver = false;
    /** @type {import("./leanvibe.js").OperatorView | null} */
    let view = null;
    (async () => {
      try {
        view = await server().watch(topics, traced ? { trace: { path: traced } } : {});
        problem.value = "";
        if (isOver) await view.close();
        for await (const topic of view) take(view, topic);
      } catch (error) {
        if (!isOver) problem.value = sentence(error);
      }
    })();
    return () => {
      isOver = true;
      view?.close().catch(() => {});
    };
  }, [isConnected, topics.join(), traced]);
}

/**
 * @param {import("./leanvibe.js").OperatorView} view
 * @param {Topic | "trace"} topic
 */
function take(view, topic) {
  if (topic === "tree") [tree.value, treeState.value] = [view.items("tree") ?? new Map(), view.latest("tree")];
  else if (topic === "metrics") metrics.value = view.items("metrics") ?? new Map();
  else if (topic === "requests") requests.value = view.items("requests") ?? new Map();
  else if (topic === "models") [models.value, modelsState.value] = [view.items("models") ?? new Map(), view.latest("models")];
  else if (topic === "clients") clients.value = view.items("clients") ?? new Map();
  else if (topic === "trace") [trace.value, traceState.value] = [view.trace, view.latest("trace")];
  else [deadLetters.value, deadLettersState.value] = [view.items("dead_letters") ?? new Map(), view.latest("dead_letters")];
}
