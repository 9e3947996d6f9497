/** The page of requests: those that run and the last 200, each with its phases as one bar. */

import { html } from "./html.js";
import { clockTime, duration } from "./operator_parts.js";
import { problem, requests, useTopics } from "./operator_view.js";

/** @typedef {import("./leanvibe.js").RequestData} RequestData */

export function Requests() {
  useTopics(["requests"]);
  const all = [...requests.value.values()].sort((one, two) => Number(two.id) - Number(one.id));
  const running = all.filter((one) => one.state !== "ended").length;
  return html`<div class="page operator-page" tabindex="0" role="region" aria-label="requests">
    ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    <p class="note" role="status">${running} waiting or running, ${all.length - running} that ended. The server keeps the last 200, and none of their text.</p>
    <p class="note legend"><span class="queued"></span> queued <span class="prefill"></span> prompt read <span class="decode"></span> answered</p>
    <div class="scrolled" tabindex="0" role="region" aria-label="requests"><table class="requests"><thead><tr>
      <th scope="col">accepted</th><th scope="col">client</th><th scope="col">model</th><th scope="col">phases</th><th scope="col">tokens</th><th scope="col">end</th><th scope="col">engine restarts</th></tr></thead>
      <tbody>${all.map((one) => html`<tr key=${one.id} data-request=${one.id} data-state=${one.state}>
        <td>${clockTime(one.accepted_ms)}</td><td>${one.client_id}</td><td>${one.model}</td><td><${Bar} request=${one} /></td>
        <td>${one.prompt_tokens} (${one.cached_tokens} cached) → ${one.answer_tokens}</td><td>${one.end_reason ?? one.state}</td><td>${one.engine_restarts}</td></tr>`)}</tbody></table></div>
  </div>`;
}

/** @param {{request: RequestData}} props */
function Bar({ request }) {
  const parts = [
    { kind: "queued", ms: request.queued_ms }, { kind: "prefill", ms: request.prefill_ms }, { kind: "decode", ms: request.decode_ms },
  ];
  const total = parts.reduce((sum, one) => sum + (one.ms ?? 0), 0) || 1;
  const words = `queued ${duration(request.queued_ms)}, prompt ${duration(request.prefill_ms)}, answer ${duration(request.decode_ms)}`;
  let at = 0;
  // As attributes of SVG: the policy of the page takes no style of an element.
  return html`<svg class="bar" role="img" aria-label=${words} viewBox="0 0 100 10" preserveAspectRatio="none"><title>${words}</title>
    ${parts.map((one) => {
      const width = (100 * (one.ms ?? 0)) / total;
      const part = html`<rect key=${one.kind} class=${one.kind} x=${at} y="0" width=${width} height="10" />`;
      at += width;
      return part;
    })}</svg> <span class="note">${duration(total)}</span>`;
}
