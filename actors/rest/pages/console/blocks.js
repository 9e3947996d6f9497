/**
 * Markdown to blocks while it is still being written: only the last block is read again, the ones before it stay the
 * objects they were. Pure but for what it remembers; marked is used for its lexer alone.
 */

import { Lexer } from "./vendor/marked.js";

/** A paragraph or a line that is longer is shown as it stands: reading hostile text takes time that grows with its square. */
const PARAGRAPH_CHARACTERS = 8_000;
/** Quotes and lists within one another; the lexer calls itself for each. */
const DEEPEST = /^[ \t]*(?:(?:>|[-*+]|\d{1,9}[.)])[ \t]*){16}/m;
const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const FENCE_BEGUN = /(^|\n) {0,3}(?:`{1,2}|`{3,}[^`\n]*|~{1,}[^~\n]*)$/;

/**
 * @typedef {{type: string, raw: string, text?: string, [key: string]: any}} Block
 */

/** Blocks of one text that only grows. */
export class BlockReader {
  /** @type {Block[]} */
  #finished = [];
  #offset = 0;

  /**
   * All blocks; those that cannot change any more are the same objects each time.
   * @param {string} text from its beginning
   * @param {boolean} isOver whether nothing will be added
   * @returns {Block[]}
   */
  read(text, isOver) {
    let tail = text.slice(this.#offset);
    // A fence of which the name is still being typed would be shown as text first.
    if (!isOver) tail = tail.replace(FENCE_BEGUN, "$1");
    const blocks = lexed(tail);
    if (isOver) return [...this.#finished, ...blocks];
    let last = blocks.length - 1;
    while (last > 0 && blocks[last].type === "space") last -= 1;
    const settled = blocks.slice(0, Math.max(0, last));
    const length = settled.reduce((sum, one) => sum + one.raw.length, 0);
    if (settled.length > 0 && settled.map((one) => one.raw).join("") === tail.slice(0, length)) {
      this.#offset += length;
      this.#finished.push(...settled);
      return [...this.#finished, ...blocks.slice(settled.length)];
    }
    return [...this.#finished, ...blocks];
  }
}

/**
 * @param {string} text
 * @returns {Block[]}
 */
export function lexed(text) {
  if (text === "") return [];
  if (isTooMuch(text)) return [{ type: "plain", raw: text, text }];
  try {
    return /** @type {Block[]} */ (/** @type {unknown} */ ([...new Lexer({ gfm: true }).lex(text)]));
  } catch {
    return [{ type: "plain", raw: text, text }];
  }
}

/** @param {string} text */
function isTooMuch(text) {
  if (DEEPEST.test(text)) return true;
  if (text.length <= PARAGRAPH_CHARACTERS) return false;
  let fence = "";
  let length = 0;
  for (const line of text.split("\n")) {
    const mark = FENCE.exec(line)?.[1];
    if (fence) {
      if (mark !== undefined && mark[0] === fence[0] && mark.length >= fence.length) fence = "";
      continue;
    }
    if (mark !== undefined) fence = mark;
    length = line.trim() === "" || fence ? 0 : length + line.length + 1;
    if (length > PARAGRAPH_CHARACTERS) return true;
  }
  return false;
}

const NAMED = /** @type {{[name: string]: string}} */ ({ amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" });

/**
 * What a reader sees in place of `&amp;` and `&#39;`; what is no such thing stays.
 * @param {string} text
 */
export function decoded(text) {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(\w{2,8}));/g, (whole, decimal, hexadecimal, name) => {
    if (name !== undefined) return NAMED[name] ?? whole;
    const code = decimal !== undefined ? Number(decimal) : parseInt(hexadecimal, 16);
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff) ? String.fromCodePoint(code) : "\ufffd";
  });
}

/**
 * Where a link may lead, or null: these schemes alone, and nothing relative, since a model knows no paths of this server.
 * @param {string} href
 * @returns {string | null}
 */
export function safeAddress(href) {
  try {
    const url = new URL(decoded(href));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
