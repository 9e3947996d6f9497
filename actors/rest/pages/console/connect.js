/** The page of connect: how other programs are told to use this server, ready to be copied. */

import { Copy } from "./copy.js";
import { html } from "./html.js";
import { connection, token } from "./session.js";
import { useEffect, useState } from "./vendor/preact_hooks.js";

/**
 * @typedef {{
 *   program: string, name: string, command?: string, command_elsewhere?: string, file?: string, language: string, content: string,
 *   steps: {text: string, is_command: boolean}[]
 * }} Setup
 * @typedef {{address: string, model: string, context_tokens: number, needs_token: boolean, programs: Setup[]}} Setups
 */

const SECONDS = 15;

export function Connect() {
  const [setups, setSetups] = useState(/** @type {Setups | null} */ (null));
  const [said, setSaid] = useState("");
  const isConnected = connection.value.state === "connected";
  useEffect(() => {
    if (!isConnected) return undefined;
    const leaving = new AbortController();
    read(leaving.signal).then((found) => (setSetups(found), setSaid("")), (error) => leaving.signal.aborted || setSaid(error.message));
    return () => leaving.abort();
  }, [isConnected]);
  return html`<div class="page operator-page" tabindex="0" role="region" aria-label="connect">
    ${said && html`<p class="problem" role="alert">The set-ups could not be read: ${said}</p>`}
    ${setups === null && !said && html`<p class="note" role="status">The set-ups are being read.</p>`}
    ${setups !== null && html`<p>Other programs use this server at <code>${setups.address}</code>; the model is <code>${setups.model}</code>${setups.context_tokens > 0 && ` with ${setups.context_tokens.toLocaleString()} tokens of context`}.
      ${setups.needs_token ? html` They need a token; <a href="#/access">Access</a> or <code>leanvibe token create --client NAME</code> makes one. No set-up holds a token.` : " They need no token, and may be told any key."}</p>
    <nav aria-label="programs"><ul class="chips">${setups.programs.map((one) => html`<li key=${one.program}><button type="button" class="quiet" onClick=${() => show(one.program)}>${one.name}</button></li>`)}</ul></nav>
    ${setups.programs.map((one) => html`<${Program} key=${one.program} setup=${one} />`)}`}
  </div>`;
}

/** The address has the page in it, so that a part of the page is gone to by hand. @param {string} program */
function show(program) {
  const title = document.getElementById(`connect-${program}`);
  title?.scrollIntoView();
  title?.focus({ preventScroll: true });
}

/** @param {AbortSignal} leaving @returns {Promise<Setups>} */
async function read(leaving) {
  const known = token();
  const answer = await fetch(`/programs?address=${encodeURIComponent(location.origin)}`, {
    headers: known === null ? {} : { Authorization: `Bearer ${known}` }, signal: AbortSignal.any([leaving, AbortSignal.timeout(SECONDS * 1000)]),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? `status ${answer.status}`);
  return body;
}

/** @param {{setup: Setup}} props */
function Program({ setup }) {
  const { program, name, command, command_elsewhere: elsewhere, file, content, steps } = setup;
  return html`<section class="program" data-program=${program} aria-labelledby=${`connect-${program}`}>
    <h3 id=${`connect-${program}`} tabindex="-1">${name}</h3>
    ${command && html`<p>On the server's machine; it shows the change, asks, and keeps the file as it was:</p><${Line} text=${command} of=${name} />`}
    ${elsewhere && html`<p>On another machine:</p><${Line} text=${elsewhere} of=${name} />`}
    ${command ? html`<details><summary>By hand, in <code>${file}</code></summary><${Content} setup=${setup} /></details>` : html`${file && html`<p>In <code>${file}</code>:</p>`}<${Content} setup=${setup} />`}
    ${steps.length > 0 && html`<p>Then:</p><ul class="then">${steps.map((one, index) => html`<li key=${index}>${one.is_command ? html`<${Line} text=${one.text} of=${name} />` : one.text}</li>`)}</ul>`}
  </section>`;
}

/** @param {{text: string, of: string}} props */
function Line({ text, of }) {
  return html`<div class="copied"><pre tabindex="0" aria-label=${`command for ${of}`}><code>${text}</code></pre><${Copy} text=${text} label=${`Copy the command for ${of}`} /></div>`;
}

/** @param {{setup: Setup}} props */
function Content({ setup }) {
  return html`<div class="copied"><pre tabindex="0" aria-label=${`${setup.language} for ${setup.name}`}><code>${setup.content}</code></pre><${Copy} text=${setup.content} label=${`Copy the ${setup.language} for ${setup.name}`} /></div>`;
}
