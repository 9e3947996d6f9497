/** Parts that the pages of operators share. */

import { html } from "./html.js";
import { sentence } from "./operator_view.js";
import { useState } from "./vendor/preact_hooks.js";

/**
 * A button that asks before it does something, and says what went wrong.
 * @param {{label: string, question: string, act: () => Promise<unknown>, kind?: string}} props
 */
export function Confirmed({ label, question, act, kind = "danger" }) {
  const [isAsking, setIsAsking] = useState(false);
  const [said, setSaid] = useState("");
  const carryOut = async () => {
    setIsAsking(false);
    setSaid("");
    try {
      await act();
    } catch (error) {
      setSaid(sentence(error));
    }
  };
  return html`<span class="confirmed">
    ${isAsking
      ? html`<span role="group" aria-label=${question}>${question} <button type="button" class="danger" onClick=${carryOut}>Yes: ${label}</button> <button type="button" onClick=${() => setIsAsking(false)}>No</button></span>`
      : html`<button type="button" class=${kind} onClick=${() => setIsAsking(true)}>${label}</button>`}
    ${said && html` <span class="problem" role="alert">${said}</span>`}
  </span>`;
}

/** @param {number | undefined} bytes */
export function mebibytes(bytes) {
  return bytes === undefined ? "–" : `${(bytes / 1048576).toLocaleString(undefined, { maximumFractionDigits: 1 })} MiB`;
}

/** @param {number | undefined} ms */
export function duration(ms) {
  if (ms === undefined) return "–";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** @param {number} ms */
export function clockTime(ms) {
  return new Date(ms).toLocaleTimeString();
}
