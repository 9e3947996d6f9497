/** The page of access: tokens, which are made and revoked here, and the devices that are connected. */

import { Copy } from "./copy.js";
import { html } from "./html.js";
import { Confirmed } from "./operator_parts.js";
import { clients, problem, sentence, useTopics } from "./operator_view.js";
import { connection, server } from "./session.js";
import { useEffect, useState } from "./vendor/preact_hooks.js";

/** @typedef {import("./leanvibe.js").TokenData} Token */

export function Access() {
  useTopics(["clients"]);
  const [tokens, setTokens] = useState(/** @type {Token[]} */ ([]));
  const [said, setSaid] = useState("");
  const [made, setMade] = useState("");
  const isConnected = connection.value.state === "connected";
  const load = async () => {
    try {
      setTokens((await server().command("token_list", {})).tokens);
    } catch (error) {
      setSaid(sentence(error));
    }
  };
  useEffect(() => {
    if (isConnected) load();
  }, [isConnected]);
  const create = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const fields = new FormData(form);
    setSaid("");
    try {
      const roles = fields.get("operator") === null ? ["user"] : ["user", "operator"];
      const found = await server().command("token_create", { client_ids: [String(fields.get("client"))], name: String(fields.get("name")), roles });
      setMade(found.token);
      form.reset();
      await load();
    } catch (error) {
      setSaid(sentence(error));
    }
  };
  return html`<div class="page operator-page" tabindex="0" role="region" aria-label="access">
    ${(said || problem.value) && html`<p class="problem" role="alert">${said || problem.value}</p>`}
    <section aria-labelledby="devices-title"><h3 id="devices-title">Connected devices</h3>
      <ul>${[...clients.value.values()].map((one) => html`<li key=${one.id} data-device=${one.id}>${one.client_id}, ${one.device_id}${one.connections > 1 && ` (${one.connections} connections)`}</li>`)}</ul></section>
    <section aria-labelledby="tokens-title"><h3 id="tokens-title">Tokens</h3>
      ${tokens.length === 0 && html`<p class="note">There are none: every program of this machine may enter. From the first one on each program needs one.</p>`}
      <ul class="tokens">${tokens.map((one) => html`<li key=${one.token_id} data-token=${one.token_id}><b>${one.name || one.token_id}</b> <span class="facts">${one.client_ids?.join(", ") ?? "every client"} · ${one.roles.join(", ")}</span>
        ${one.revoked_ms !== undefined ? html` <span class="note">revoked</span>` : one.is_local ? html` <span class="note">of this machine's command line</span>` : html` <${Confirmed} label="Revoke" question="End it and close its connections?" act=${async () => { await server().command("token_revoke", { token_id: one.token_id }); await load(); }} />`}</li>`)}</ul>
      ${made && html`<p role="status">The new token, shown this once: <code class="made">${made}</code> <${Copy} text=${made} label="Copy the token" /></p>`}
      <form onSubmit=${create}><h4>New token</h4>
        <label>Client <input name="client" required maxlength="64" pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" /></label>
        <label>Name <input name="name" maxlength="64" /></label>
        <label><input type="checkbox" name="operator" /> operator</label>
        <button>Make it</button></form></section>
  </div>`;
}
