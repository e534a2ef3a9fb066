// Prompts and clocks that are the same for every engine.

// Each is one token in the usual vocabularies.
const WORDS =
  "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any like my now over such our man me even most made after also did many".split(
    " ",
  );

/** The seed of the words before a prompt. */
export const DEPTH = 0x7fff;

/** So many words in an order of their own for each seed, so that no cache can help with more than it should. @param {number} n @param {number} seed */
export function words(n, seed) {
  let x = Math.imul(seed + 1, 2654435761) >>> 0;
  return Array.from({ length: n }, () => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return ` ${WORDS[(x >>> 8) % WORDS.length]}`;
  }).join("");
}

/** Notes when tokens come, by the page's clock. */
export class Clock {
  start = performance.now();
  first = 0;
  last = 0;

  token() {
    this.last = performance.now();
    this.first ||= this.last;
  }

  /** @param {number} depth tokens in the cache @param {number} prompt other tokens of the prompt @param {number} made tokens that came */
  speeds(depth, prompt, made) {
    return {
      depth,
      prompt,
      firstMs: this.first - this.start,
      prefill: (prompt / (this.first - this.start)) * 1000,
      decode: ((made - 1) / (this.last - this.first)) * 1000,
    };
  }
}
