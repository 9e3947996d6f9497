/** What is shown where the server has tokens and this browser has none that is good. */

import { html } from "./html.js";
import { clientId, connection, giveToken } from "./session.js";
import { useState } from "./vendor/preact_hooks.js";

export function TokenForm() {
  const [token, setToken] = useState("");
  const [name, setName] = useState(clientId());
  const [isKept, setKept] = useState(false);
  const value = (/** @type {Event} */ event) => /** @type {HTMLInputElement} */ (event.target).value;
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    giveToken(token.trim(), name.trim(), isKept);
  };
  return html`<form class="token" onSubmit=${send}>
    <h3>This server needs a token</h3>
    <p>On its machine <code>leanvibe token create --client NAME --open</code> opens this page with one; without <code>--open</code> it shows one to enter here.</p>
    ${connection.value.problem && html`<p class="problem" role="alert">${connection.value.problem}</p>`}
    <label>Token <input type="password" required autocomplete="off" value=${token} onInput=${(/** @type {Event} */ event) => setToken(value(event))} /></label>
    <label>Client <input required maxlength="64" autocomplete="off" spellcheck=${false} value=${name} onInput=${(/** @type {Event} */ event) => setName(value(event))} /></label>
    <label class="tick"><input type="checkbox" checked=${isKept} onChange=${() => setKept(!isKept)} /> Keep it in this browser</label>
    <button type="submit" class="main">Connect</button>
  </form>`;
}
