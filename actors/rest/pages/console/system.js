/** The page of the supervision tree: live, with a panel for one of its parts, dead letters, and a way to break something. */

import { html } from "./html.js";
import { clockTime, Confirmed } from "./operator_parts.js";
import { deadLetters, deadLettersState, problem, sentence, trace, traceState, tree, treeState, useTopics } from "./operator_view.js";
import { server } from "./session.js";
import { useEffect, useState } from "./vendor/preact_hooks.js";

/**
 * @typedef {import("./leanvibe.js").TreeNodeData} TreeNode
 * @typedef {import("./leanvibe.js").ActorStateData} ActorState
 */

const LETTERS = 30;
const RUNNING = new Set(["idle", "busy", "running"]);

/** @param {{name: string, go: (path: string) => void}} props `name` is the path of the part that the panel shows */
export function System({ name, go }) {
  const [wanted, setWanted] = useState("");
  const [traced, setTraced] = useState("");
  useTopics(["tree", "dead_letters"], traced);
  const nodes = [...tree.value.values()].filter((one) => one.path.includes(wanted.trim()));
  const shown = tree.value.get(name);
  return html`<div class="page operator-page" tabindex="0" role="region" aria-label="system">
    ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    <p role="status" class=${treeState.value?.is_ready === false ? "problem" : "note"}>${readiness()}</p>
    <div class="system">
      <section aria-labelledby="tree-title">
        <h3 id="tree-title">Supervision tree</h3>
        <label>Search <input type="search" value=${wanted} onInput=${(/** @type {Event} */ event) => setWanted(/** @type {HTMLInputElement} */ (event.target).value)} /></label>
        <div class="scrolled" tabindex="0" role="region" aria-label="supervision tree">
          <table class="tree"><thead><tr><th scope="col">part</th><th scope="col">state</th><th scope="col">incarnation</th><th scope="col">restarts</th><th scope="col">mailbox</th><th scope="col">messages/s</th></tr></thead>
          <tbody>${nodes.map((node) => html`<${Row} key=${node.path} node=${node} isShown=${node === shown} open=${() => go(`system/${encodeURIComponent(node.path)}`)} />`)}</tbody></table>
        </div>
        ${tree.value.size === 0 && !problem.value && html`<p class="note">The tree is being read.</p>`}
      </section>
      ${shown && html`<${Panel} key=${shown.path} node=${shown} traced=${traced} setTraced=${setTraced} close=${() => go("system")} />`}
    </div>
    <${DeadLetters} />
    <section aria-labelledby="break-title"><h3 id="break-title">Break it yourself</h3>
      <p>This kills the process of the model as <code>kill -9</code> does. Ask something long in another window first: the answer waits, a new process starts, and the next token comes.</p>
      <${Confirmed} label="Kill the engine" question="Kill it under all running answers?" act=${() => server().command("engine_kill", {})} />
    </section>
  </div>`;
}

function readiness() {
  const state = treeState.value;
  if (state === null) return "";
  const reasons = state.reasons.length > 0 ? `Not ready: ${state.reasons.join("; ")}.` : "Ready.";
  return state.degraded.length > 0 ? `${reasons} Degraded: ${state.degraded.join("; ")}.` : reasons;
}

/** @param {{node: TreeNode, isShown: boolean, open: () => void}} props */
function Row({ node, isShown, open }) {
  const parts = node.path.split("/");
  const depth = node.path === "root" ? 0 : parts.length;
  return html`<tr class=${RUNNING.has(node.state) ? "" : "down"} data-path=${node.path} data-state=${node.state}>
    <th scope="row" class=${`depth-${Math.min(depth, 4)}`}><button type="button" class="quiet" aria-pressed=${isShown} aria-label=${node.path} onClick=${open}>${parts[parts.length - 1]}</button></th>
    <td>${node.state}${node.current_message ? html` <span class="note">${node.current_message}</span>` : ""}</td>
    <td>${node.incarnation}</td><td>${node.restarts}</td>
    <td>${node.mailbox ? `${node.mailbox.used} of ${node.mailbox.capacity}` : ""}</td>
    <td>${node.messages_per_second ?? ""}</td></tr>`;
}

/** @param {{node: TreeNode, traced: string, setTraced: (path: string) => void, close: () => void}} props */
function Panel({ node, traced, setTraced, close }) {
  const [state, setState] = useState(/** @type {ActorState | null} */ (null));
  const [said, setSaid] = useState("");
  const { path } = node;
  const isSuspended = node.state === "suspended";
  useEffect(() => {
    server().command("actor_state", { path }).then(setState, (error) => setSaid(sentence(error)));
  }, [path, node.incarnation]);
  return html`<section class="panel" aria-labelledby="panel-title">
    <h3 id="panel-title">${path}</h3>
    <button type="button" class="quiet" onClick=${close}>Close</button>
    ${said && html`<p class="problem" role="alert">${said}</p>`}
    <dl><dt>kind</dt><dd>${node.kind}</dd><dt>state</dt><dd>${node.state}</dd><dt>incarnation</dt><dd>${node.incarnation}${node.started_ms !== undefined && `, since ${clockTime(node.started_ms)}`}</dd>
      <dt>handled</dt><dd>${node.handled ?? "–"}</dd><dt>last crash</dt><dd>${node.last_error ?? "none"}</dd></dl>
    <p class="actions">
      <${Confirmed} label="Restart" question=${`Restart ${path}?`} act=${() => server().command("actor_restart", { path })} />
      ${node.kind === "actor" && (isSuspended
        ? html`<button type="button" onClick=${() => server().command("actor_resume", { path }).catch((error) => setSaid(sentence(error)))}>Let it go on</button>`
        : html`<${Confirmed} label="Suspend" question=${`Let ${path} take no messages?`} act=${() => server().command("actor_suspend", { path })} />`)}
      ${node.kind === "actor" && html`<button type="button" aria-pressed=${traced === path} onClick=${() => setTraced(traced === path ? "" : path)}>${traced === path ? "End the trace" : "Trace 200 messages"}</button>`}
    </p>
    ${traced === path && html`<div class="scrolled" tabindex="0" role="region" aria-label="trace"><ol class="trace">${trace.value.map((one, index) => html`<li key=${index}>${one.seconds.toFixed(3)} ${one.direction} <b>${one.message_type}</b> ${one.other}</li>`)}</ol>
      <p class="note">${traceState.value?.is_over ? "The trace is over." : "Messages are shown as they come."} ${traceState.value?.skipped ? `${traceState.value.skipped} were over the rate.` : ""}</p></div>`}
    ${state?.snapshot && html`<h4>What it says of itself</h4><pre tabindex="0">${JSON.stringify(state.snapshot, null, 2)}</pre>`}
    ${state && state.stack.length > 0 && html`<h4>Where its task waits</h4><pre tabindex="0">${state.stack.join("\n")}</pre>`}
  </section>`;
}

function DeadLetters() {
  const all = [...deadLetters.value.values()].reverse();
  const state = deadLettersState.value;
  return html`<section aria-labelledby="letters-title"><h3 id="letters-title">Dead letters <span class="count">${state?.total ?? ""}</span></h3>
    ${state && html`<p class="note">${Object.entries(state.counts).map(([reason, count]) => `${reason}: ${count}`).join(" · ") || "Each message was handled."}</p>`}
    ${all.length > 0 && html`<div class="scrolled" tabindex="0" role="region" aria-label="dead letters"><table><thead><tr><th scope="col">time</th><th scope="col">to</th><th scope="col">message</th><th scope="col">reason</th></tr></thead>
      <tbody>${all.slice(0, LETTERS).map((one) => html`<tr key=${one.id}><td>${clockTime(one.time_ms)}</td><td>${one.path}</td><td>${one.message_type}</td><td>${one.reason}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}
