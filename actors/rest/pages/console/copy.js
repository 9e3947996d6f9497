/** A button that copies a text, and says whether it could. */

import { html } from "./html.js";
import { useEffect, useRef, useState } from "./vendor/preact_hooks.js";

const SAID_MS = 2_000;

/** @param {{text: string, label?: string}} props `label` names it where several stand on one page */
export function Copy({ text, label }) {
  const [said, say] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      // Pages that came over plain HTTP from another machine have no clipboard.
      say("This browser does not let a page copy; select the text instead");
    }
    clearTimeout(timer.current);
    timer.current = setTimeout(() => say(""), SAID_MS);
  };
  return html`<span role="status">${said}</span><button type="button" class="copy" aria-label=${label} onClick=${copy}>Copy</button>`;
}
