/** Code with its colours and a button that copies it. highlight.js finds the parts; they become nodes here. */

import { Copy } from "./copy.js";
import { html } from "./html.js";
import { useEffect, useState } from "./vendor/preact_hooks.js";

/** Longer code is shown without colours. */
const COLOURED_CHARACTERS = 20_000;

/** What people write behind a fence, and the file that knows it. */
const LANGUAGES = /** @type {{[name: string]: string}} */ ({
  bash: "bash", sh: "bash", shell: "bash", console: "bash", zsh: "bash", c: "cpp", h: "cpp", cpp: "cpp", "c++": "cpp", cc: "cpp",
  css: "css", scss: "css", diff: "diff", patch: "diff", go: "go", golang: "go", java: "java", js: "javascript", javascript: "javascript",
  jsx: "javascript", mjs: "javascript", json: "json", py: "python", python: "python", python3: "python", rs: "rust", rust: "rust",
  sql: "sql", ts: "typescript", tsx: "typescript", typescript: "typescript", html: "xml", xml: "xml", svg: "xml", yaml: "yaml", yml: "yaml",
});

/** @type {Promise<any> | null} */
let library = null;
/** @type {Map<string, Promise<any>>} */
const loading = new Map();

/**
 * The library with this language, fetched once; null where there is no such language.
 * @param {string} name
 * @returns {Promise<any>}
 */
async function highlighter(name) {
  const file = Object.hasOwn(LANGUAGES, name) ? LANGUAGES[name] : null;
  if (file === null) return null;
  library ??= import("./vendor/highlight.js").then((module) => module.default);
  const known = await library;
  let wanted = loading.get(file);
  if (wanted === undefined) {
    wanted = import(`./vendor/highlight_${file}.js`).then((module) => known.registerLanguage(file, module.default));
    loading.set(file, wanted);
  }
  await wanted;
  return { library: known, file };
}

/**
 * @param {{children?: any[], scope?: string} | string} node of highlight.js' tree
 * @returns {any}
 */
function coloured(node) {
  if (typeof node === "string") return node;
  const children = (node.children ?? []).map(coloured);
  const scope = node.scope?.split(".")[0];
  return scope && /^[a-z_-]+$/i.test(scope) ? html`<span class=${`hl-${scope}`}>${children}</span>` : children;
}

/**
 * @param {string} text
 * @param {string} name
 * @returns {Promise<any>} nodes, or null where it stays plain
 */
async function colouredCode(text, name) {
  if (text.length > COLOURED_CHARACTERS) return null;
  try {
    const found = await highlighter(name);
    if (found === null) return null;
    const result = found.library.highlight(text, { language: found.file, ignoreIllegals: true });
    return (result._emitter?.rootNode?.children ?? [text]).map(coloured);
  } catch {
    // A file that could not be fetched, or a text that the library cannot take: it is readable without colours.
    return null;
  }
}

/** @param {{text: string, language: string, isOpen: boolean}} props */
export function Code({ text, language, isOpen }) {
  const name = (/^[\w+#.-]{1,32}/.exec(language) ?? [""])[0].toLowerCase();
  const [nodes, setNodes] = useState(/** @type {any} */ (null));
  useEffect(() => {
    // Colours come when the block is complete; until then each token would colour all of it again.
    if (isOpen) return undefined;
    let isWanted = true;
    colouredCode(text, name).then((found) => isWanted && setNodes(found));
    return () => {
      isWanted = false;
    };
  }, [text, name, isOpen]);
  return html`<figure class="code">
    <figcaption><span>${name || "text"}</span><${Copy} text=${text} /></figcaption>
    <pre tabindex="0" aria-label=${`code, ${name || "text"}`}><code>${isOpen || nodes === null ? text : nodes}</code></pre>
  </figure>`;
}
