/** Which sentences of a growing text are complete: a screen reader is told each of them once. Pure. */

const END = /[.!?:;…。！？]["'”’)\]]*\s+|\n\s*\n/g;
/** Without an end for so long, a part is told as it is. */
const LONGEST = 400;

/**
 * @param {string} text all of it so far
 * @param {number} from up to where it was told
 * @param {boolean} isOver
 * @returns {{sentences: string[], next: number}}
 */
export function takeSentences(text, from, isOver) {
  /** @type {string[]} */
  const sentences = [];
  let next = from;
  const tail = text.slice(from);
  for (const found of tail.matchAll(END)) {
    const end = from + found.index + found[0].length;
    push(sentences, text.slice(next, end));
    next = end;
  }
  if (isOver || text.length - next > LONGEST) {
    push(sentences, text.slice(next));
    next = text.length;
  }
  return { sentences, next };
}

/**
 * @param {string[]} sentences
 * @param {string} text
 */
function push(sentences, text) {
  // Marks that nobody wants to hear.
  const spoken = text.replace(/[`*_#>|~]+/g, " ").replace(/\s+/g, " ").trim();
  if (/[\p{L}\p{N}]/u.test(spoken)) sentences.push(spoken);
}
