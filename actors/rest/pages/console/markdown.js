/** Blocks of Markdown as nodes. Text of a model is only ever the text of a node: HTML is shown as it was written. */

import { BlockReader, decoded, safeAddress } from "./blocks.js";
import { Code } from "./code.js";
import { html } from "./html.js";
import { Component } from "./vendor/preact.js";
import { useMemo, useRef } from "./vendor/preact_hooks.js";

/** @typedef {import("./blocks.js").Block} Token */

/** One block; drawn again only for another token, so that a finished one keeps its nodes. */
class Block extends Component {
  /** @param {{token: Token, isOpen: boolean}} next */
  shouldComponentUpdate(next) {
    const { token, isOpen } = /** @type {{token: Token, isOpen: boolean}} */ (/** @type {unknown} */ (this.props));
    return next.token !== token || next.isOpen !== isOpen;
  }

  render() {
    const { token, isOpen } = /** @type {{token: Token, isOpen: boolean}} */ (/** @type {unknown} */ (this.props));
    return block(token, isOpen);
  }
}

/**
 * A text as Markdown, with a remark before the first block that begins behind each of `seams`.
 * @param {{text: string, isOver: boolean, seams?: number[], remark?: string}} props
 */
export function Markdown({ text, isOver, seams = [], remark = "" }) {
  const reader = useRef(/** @type {BlockReader | null} */ (null));
  reader.current ??= new BlockReader();
  const blocks = reader.current;
  const tokens = useMemo(() => blocks.read(text, isOver), [text, isOver]);
  const left = [...seams];
  let at = 0;
  const drawn = [];
  tokens.forEach((token, index) => {
    while (left.length > 0 && left[0] <= at) drawn.push(seam(remark, left.shift() ?? 0));
    drawn.push(html`<${Block} key=${`b${index}`} token=${token} isOpen=${!isOver && index === tokens.length - 1} />`);
    at += token.raw.length;
  });
  for (const position of left) drawn.push(seam(remark, position));
  return html`<div class="markdown">${drawn}</div>`;
}

/**
 * @param {string} remark
 * @param {number} position
 */
function seam(remark, position) {
  return html`<p class="seam" key=${`s${position}`}>${remark}</p>`;
}

/**
 * @param {Token} token
 * @param {boolean} isOpen whether it may still grow
 * @returns {any}
 */
function block(token, isOpen) {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      // Below the headings of the page.
      return html`<${`h${Math.min(6, token.depth + 2)}`}>${inline(token.tokens)}<//>`;
    case "paragraph":
      return html`<p>${inline(token.tokens)}</p>`;
    case "text":
      return token.tokens ? html`<span>${inline(token.tokens)}</span>` : decoded(token.text ?? "");
    case "code":
      return html`<${Code} text=${token.text} language=${token.lang ?? ""} isOpen=${isOpen} />`;
    case "blockquote":
      return html`<blockquote>${token.tokens.map((/** @type {Token} */ one) => block(one, isOpen))}</blockquote>`;
    case "list":
      return list(token, isOpen);
    case "table":
      return table(token);
    case "hr":
      return html`<hr />`;
    case "checkbox":
      return checkbox(token);
    default:
      // HTML, what is too long to be read, and whatever a later marked may know.
      return html`<p class="verbatim">${token.raw.replace(/\n+$/, "")}</p>`;
  }
}

/** @param {Token} token */
function checkbox(token) {
  return html`<input type="checkbox" disabled checked=${token.checked} aria-label=${token.checked ? "done" : "to do"} />`;
}

/**
 * @param {Token} token
 * @param {boolean} isOpen
 */
function list(token, isOpen) {
  const items = token.items.map(
    (/** @type {Token} */ item) => html`<li>${item.tokens.map((/** @type {Token} */ one) => block(one, isOpen))}</li>`,
  );
  return token.ordered ? html`<ol start=${token.start === "" ? 1 : token.start}>${items}</ol>` : html`<ul>${items}</ul>`;
}

/** @param {Token} token */
function table(token) {
  const cell = (/** @type {Token} */ one) => ({ class: one.align ? `align-${one.align}` : undefined });
  return html`<div class="table" tabindex="0" role="region" aria-label="table"><table>
    <thead><tr>${token.header.map((/** @type {Token} */ one) => html`<th scope="col" ...${cell(one)}>${inline(one.tokens)}</th>`)}</tr></thead>
    <tbody>${token.rows.map(
      (/** @type {Token[]} */ row) => html`<tr>${row.map((one) => html`<td ...${cell(one)}>${inline(one.tokens)}</td>`)}</tr>`,
    )}</tbody>
  </table></div>`;
}

/**
 * @param {Token[] | undefined} tokens
 * @returns {any[]}
 */
function inline(tokens) {
  return (tokens ?? []).map((token) => {
    switch (token.type) {
      case "text":
      case "escape":
        return token.tokens ? inline(token.tokens) : token.type === "escape" ? token.text : decoded(token.text ?? "");
      case "strong":
        return html`<strong>${inline(token.tokens)}</strong>`;
      case "em":
        return html`<em>${inline(token.tokens)}</em>`;
      case "del":
        return html`<del>${inline(token.tokens)}</del>`;
      case "codespan":
        return html`<code>${token.text}</code>`;
      case "br":
        return html`<br />`;
      case "checkbox":
        return checkbox(token);
      case "link":
        return link(token, inline(token.tokens));
      case "image":
        // Nothing is loaded from elsewhere: that would tell others what is read here.
        return link(token, [`[image: ${token.text || "no description"}]`]);
      default:
        return token.raw;
    }
  });
}

/**
 * @param {Token} token
 * @param {any[]} shown
 */
function link(token, shown) {
  const address = safeAddress(token.href);
  // What leads nowhere that is allowed is shown as it was written.
  if (address === null) return token.raw;
  return html`<a href=${address} target="_blank" rel="noopener noreferrer" title=${token.title ?? undefined}>${shown}</a>`;
}
