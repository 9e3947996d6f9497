/** Pages that are fetched when somebody opens them for the first time. */

import { html } from "./html.js";
import { useEffect, useState } from "./vendor/preact_hooks.js";

/** @typedef {(props: {name: string, go: (path: string) => void}) => any} Page */

/**
 * A page that stands for another one until that is there.
 * @param {() => Promise<Page>} fetched
 * @returns {Page}
 */
export function lazy(fetched) {
  /** @type {Page | null} */
  let known = null;
  return (props) => {
    const [, setKnown] = useState(known !== null);
    const [problem, setProblem] = useState("");
    useEffect(() => {
      // Asked for also where it has come since this was drawn, or nobody would draw it again. A module is fetched once.
      fetched().then((page) => { known = page; setKnown(true); }, (error) => setProblem(String(error.message ?? error)));
    }, []);
    if (known !== null) return html`<${known} ...${props} />`;
    // A browser may remember that a module was not to be had, so only the whole page is asked for again.
    if (problem !== "") {
      return html`<div class="page"><p class="problem" role="alert">This page could not be fetched: the server is away, or another version of it runs. <button type="button" onClick=${() => location.reload()}>Load again</button></p></div>`;
    }
    return html`<div class="page"><p class="note" role="status">The page is being fetched.</p></div>`;
  };
}
