/** The page of models: what vouches for each, what memory it needs, and changing the one in use. */

import { html } from "./html.js";
import { Confirmed, mebibytes } from "./operator_parts.js";
import { models, modelsState, problem, useTopics } from "./operator_view.js";
import { token } from "./session.js";

/** @typedef {import("./leanvibe.js").ModelData} ModelData */

export function Models() {
  useTopics(["models"]);
  const engine = modelsState.value?.engine;
  return html`<div class="page operator-page" tabindex="0" role="region" aria-label="models">
    ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    ${modelsState.value?.problem && html`<p class="problem" role="alert">These figures are old: ${modelsState.value.problem}</p>`}
    ${engine && html`<section aria-labelledby="engine-title"><h3 id="engine-title">${engine.model}: ${engine.state}</h3>
      ${engine.changing_to && html`<p role="status">${engine.changing_to} is being loaded${engine.change_stage ? `: ${engine.change_stage}` : ""}</p>`}
      ${engine.problem && html`<p class="note">${engine.problem}</p>`}
      <dl><dt>holds</dt><dd>${Object.entries(engine.memory_bytes).map(([kind, bytes]) => `${kind} ${mebibytes(bytes)}`).join(", ") || "–"}</dd>
        <dt>may hold</dt><dd>${mebibytes(engine.memory_bound_bytes)}</dd>
        <dt>canary</dt><dd>${engine.canary_nll === undefined ? "not measured" : `${engine.canary_nll.toFixed(4)} nats per token`}</dd>
        <dt>restarts</dt><dd>${engine.restarts}</dd></dl>
      ${engine.checks.length > 0 && html`<ul>${engine.checks.map((one, index) => html`<li key=${index}>${one.passed ? "passed" : "failed"}: ${String(one.name)}, ${String(one.detail)}</li>`)}</ul>`}
      ${engine.warnings.map((one, index) => html`<p key=${index} class="note">${one}</p>`)}</section>`}
    <ul class="models">${[...models.value.values()].map((one) => html`<${Model} key=${one.full_name} model=${one} />`)}</ul>
    <p class="note">Models are fetched and verified by <code>leanvibe model pull</code>.</p>
  </div>`;
}

/** @param {{model: ModelData}} props */
function Model({ model }) {
  const change = async (/** @type {string} */ what) => {
    const known = token();
    const answer = await fetch(`/models/${model.name.split("/").map(encodeURIComponent).join("/")}/${what}`, {
      method: "POST", headers: known === null ? {} : { Authorization: `Bearer ${known}` },
    });
    if (!answer.ok) throw new Error((await answer.json()).detail ?? `status ${answer.status}`);
  };
  return html`<li class="card" data-model=${model.name}><h3>${model.name}${model.is_in_use && html` <span class="badge">in use</span>`}</h3>
    <p>${model.state}${model.stage ? `: ${model.stage}` : ""}</p>
    <p class="facts">${[model.type, model.quantization, model.provenance, model.source].filter(Boolean).join(" · ")}</p>
    <p class="facts">needs ${mebibytes(model.need_bytes)}, on disk ${mebibytes(model.size_bytes)}${model.digest && html`, SHA-256 <code>${model.digest.slice(0, 16)}…</code>`}</p>
    ${model.calibration && html`<${Reliability} of=${model.calibration} name=${model.name} />`}
    <p class="actions">${model.state !== "absent" && !model.is_in_use && html`<${Confirmed} label="Load" kind="" question=${`Load ${model.name} for new requests?`} act=${() => change("load")} />`}
      ${model.is_in_use && model.state === "loaded" && html`<${Confirmed} label="Unload" question=${`End the process of ${model.name}?`} act=${() => change("unload")} />`}</p></li>`;
}

/** @param {{of: import("./leanvibe.js").CalibrationData, name: string}} props */
function Reliability({ of, name }) {
  const words = `Of ${of.items} answers: ${of.points.map((one) => `at confidence ${one.confidence.toFixed(2)} ${Math.round(100 * one.rate)} % were right`).join("; ")}`;
  return html`<details><summary>Reliability of its confidence</summary><svg class="reliability" role="img" aria-label=${`${name}. ${words}`} viewBox="0 0 100 100">
    <line x1="0" y1="100" x2="100" y2="0" /><polyline points=${of.points.map((one) => `${100 * one.confidence},${100 - 100 * one.rate}`).join(" ")} /></svg><p class="note">${words}</p></details>`;
}
