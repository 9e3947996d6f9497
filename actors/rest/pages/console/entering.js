/** Entering by a link that is good for once: its code is taken out of the address, shown to the server, and forgotten. */

import { remember } from "./storage.js";
import { signal } from "./vendor/signals.js";

const LINK = /^#\/enter\/([\w-]{1,128})$/;
const SECONDS = 20;

/** What became of the link: who entered, or why nobody did. */
export const entry = signal(/** @type {{client: string, token: string} | {problem: string} | null} */ (null));

/** The code, which is in no address and no history from here on; null without one. */
function takeCode() {
  const found = LINK.exec(location.hash);
  if (found === null) return null;
  history.replaceState(null, "", `${location.pathname}${location.search}#/chat`);
  return found[1];
}

/** @param {string} code */
async function exchange(code) {
  try {
    const answer = await fetch("/console/enter", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }), signal: AbortSignal.timeout(SECONDS * 1000),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail ?? `status ${answer.status}`);
    remember("session", "token", body.token);
    remember("local", "client", body.client_id);
    entry.value = { client: body.client_id ?? "", token: body.token };
  } catch (error) {
    entry.value = { problem: `The link did not let you in: ${/** @type {Error} */ (error).message}.` };
  }
}

const first = takeCode();
/** Done when a link that this page was opened by has been tried. */
export const entered = first === null ? Promise.resolve() : exchange(first);

// A link that is opened in a window that has the page already.
addEventListener("hashchange", async () => {
  const code = takeCode();
  if (code === null) return;
  await exchange(code);
  if (entry.value !== null && "token" in entry.value) location.reload();
});

/** Keeps the token of the link in this browser, beyond this window. */
export function keepEntry() {
  if (entry.value !== null && "token" in entry.value) remember("local", "token", entry.value.token);
  entry.value = null;
}
