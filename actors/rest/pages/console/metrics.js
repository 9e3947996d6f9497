/** The page of figures: each as a number and as a line over the last minutes in which somebody looked. */

import { html } from "./html.js";
import { duration, mebibytes } from "./operator_parts.js";
import { metrics, problem, useTopics } from "./operator_view.js";

/** @typedef {import("./leanvibe.js").MetricsPoint} Point */

const plain = (/** @type {number | undefined} */ value) => (value === undefined ? "–" : value.toLocaleString());
/** @type {Array<{title: string, of: (point: Point) => number | undefined, shown: (value: number | undefined) => string}>} */
const FIGURES = [
  { title: "tokens per second", of: (one) => one.tokens_per_second, shown: plain },
  { title: "tokens a step", of: (one) => one.tokens_per_step, shown: plain },
  { title: "first token, median of 200", of: (one) => one.first_token_p50_ms, shown: duration },
  { title: "first token, 99 of 100", of: (one) => one.first_token_p99_ms, shown: duration },
  { title: "running", of: (one) => one.running, shown: plain },
  { title: "waiting", of: (one) => one.waiting, shown: plain },
  { title: "keys and values", of: (one) => one.kv_bytes, shown: mebibytes },
  { title: "prefix cache", of: (one) => one.prefix_bytes, shown: mebibytes },
  { title: "prefix hit rate", of: (one) => one.prefix_hit_rate, shown: (value) => (value === undefined ? "–" : `${(100 * value).toFixed(1)} %`) },
  { title: "memory of the engine", of: (one) => one.engine_memory_bytes, shown: mebibytes },
  { title: "memory of the server", of: (one) => one.server_memory_bytes, shown: mebibytes },
  { title: "event-loop delay", of: (one) => one.event_loop_delay_ms, shown: duration },
  { title: "messages to push channels", of: (one) => one.push_queue, shown: plain },
];

export function Metrics() {
  useTopics(["metrics"]);
  const points = [...metrics.value.values()];
  return html`<div class="page operator-page" tabindex="0" role="region" aria-label="metrics">
    ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    <p class="note">Measured twice a second while somebody looks; the lines reach back five minutes at most. A dash was not measured.</p>
    <div class="figures-grid">${FIGURES.map((one) => html`<${Figure} key=${one.title} figure=${one} points=${points} />`)}</div>
  </div>`;
}

/** @param {{figure: typeof FIGURES[number], points: Point[]}} props */
function Figure({ figure, points }) {
  const last = points.length === 0 ? undefined : figure.of(points[points.length - 1]);
  const measured = points.map((one) => ({ time: one.time_ms, value: figure.of(one) })).filter((one) => one.value !== undefined);
  const top = Math.max(...measured.map((one) => one.value ?? 0), 1e-9);
  const from = points[0]?.time_ms ?? 0;
  const span = Math.max(1, (points[points.length - 1]?.time_ms ?? 0) - from);
  const line = measured.map((one) => `${((100 * (one.time - from)) / span).toFixed(2)},${(29 - (28 * (one.value ?? 0)) / top).toFixed(2)}`).join(" ");
  return html`<section class="figure" aria-label=${figure.title}><h3>${figure.title}</h3><p class="value">${figure.shown(last)}</p>
    <svg viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true"><polyline points=${line} /></svg>
    <p class="note">most: ${measured.length === 0 ? "–" : figure.shown(top)}</p></section>`;
}
