// Arithmetic as people write it, without `eval`: + - * / % ^, parentheses, some functions and constants.
const FUNCTIONS: Record<string, (x: number) => number> = {
  abs: Math.abs,
  ceil: Math.ceil,
  cos: Math.cos,
  exp: Math.exp,
  floor: Math.floor,
  ln: Math.log,
  log: Math.log10,
  round: Math.round,
  sin: Math.sin,
  sqrt: Math.sqrt,
  tan: Math.tan,
};
const CONSTANTS: Record<string, number> = { pi: Math.PI, e: Math.E };
const TOKEN = /\s*(?:(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)|([a-z]+)|(\*\*|[-+*/%^()×÷−]))/iy;
/** Deeper than people write it; a model may repeat itself. */
const DEEPEST = 100;

function tokenize(text: string): string[] {
  const found: string[] = [];
  const end = text.trimEnd().length;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < end) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (!match)
      throw new Error(
        `at character ${at + 1}: expected a number or one of + - * / % ^ ( ), found "${text.slice(at).trim()[0]}"`,
      );
    const [, number, word, sign] = match;
    const plain: Record<string, string> = { "**": "^", "×": "*", "÷": "/", "−": "-" };
    found.push(number ?? word?.toLowerCase() ?? plain[sign!] ?? sign!);
  }
  return found;
}

export function calculate(text: string): number {
  const tokens = tokenize(text);
  let at = 0;
  let depth = 0;
  const take = (...wanted: string[]) => (wanted.includes(tokens[at] ?? "") ? tokens[at++] : undefined);

  function sum(): number {
    if (++depth > DEEPEST) throw new Error(`more than ${DEEPEST} parentheses inside of each other`);
    let value = product();
    for (let sign = take("+", "-"); sign; sign = take("+", "-")) value += sign === "+" ? product() : -product();
    depth--;
    return value;
  }
  function product(): number {
    let value = signed();
    for (let sign = take("*", "/", "%"); sign; sign = take("*", "/", "%")) {
      const other = signed();
      value = sign === "*" ? value * other : sign === "/" ? value / other : value % other;
    }
    return value;
  }
  // As in mathematics, -2 ^ 2 is -(2 ^ 2), and 2 ^ 3 ^ 2 is 2 ^ (3 ^ 2).
  function signed(): number {
    let sign = 1;
    for (let s = take("+", "-"); s; s = take("+", "-")) if (s === "-") sign = -sign;
    return sign * power();
  }
  function power(): number {
    const base = atom();
    if (!take("^")) return base;
    if (++depth > DEEPEST) throw new Error(`more than ${DEEPEST} powers inside of each other`);
    const value = base ** signed();
    depth--;
    return value;
  }
  function atom(): number {
    const token = tokens[at++];
    if (token === undefined) throw new Error("the expression ends where a number is expected");
    if (/^[\d.]/.test(token)) return Number(token);
    if (Object.hasOwn(CONSTANTS, token)) return CONSTANTS[token]!;
    const f = Object.hasOwn(FUNCTIONS, token) ? FUNCTIONS[token] : undefined;
    if (!f && token !== "(")
      throw new Error(
        `"${token}" is no number, constant or function; known are ${[...Object.keys(FUNCTIONS), ...Object.keys(CONSTANTS)].join(", ")}`,
      );
    if (f && !take("(")) throw new Error(`a "(" is expected after ${token}`);
    const value = sum();
    if (!take(")")) throw new Error('a ")" is missing');
    return f ? f(value) : value;
  }

  const value = sum();
  if (at < tokens.length) throw new Error(`"${tokens[at]}" stands where the expression should end`);
  if (!Number.isFinite(value)) throw new Error("the result is not a finite number");
  return value;
}
