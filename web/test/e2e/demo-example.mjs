// A conversation with all that an answer may have, as the demo exports it.
const ANSWER = `A number is prime when nothing but **1** and itself divides it. To test $n$, it is enough to try up to $\\sqrt{n}$:

\`\`\`python
def is_prime(n):
    if n < 2:
        return False
    return all(n % d for d in range(2, int(n ** 0.5) + 1))
\`\`\`

How many there are below $x$ is about

$$\\pi(x) \\sim \\frac{x}{\\ln x}$$

1. Both 97 and 89 are prime,
2. and their product is \`8633\`.`;

/** @param {string} id @param {string} title @param {string} [answer] */
export function example(id, title, answer = ANSWER) {
  const call = (/** @type {string} */ id, /** @type {string} */ name, /** @type {object} */ args) => ({
    id,
    type: "function",
    function: { name, arguments: JSON.stringify(args) },
  });
  const list = [
    { role: "user", content: `How do I test whether a number is prime?` },
    {
      role: "assistant",
      content: "",
      reasoning: "The product of two primes is a good example. I should compute it rather than guess.",
      calls: [
        call("1", "calculator", { expression: "97 * 89" }),
        call("2", "read_page", { url: "https://primes.example/" }),
      ],
    },
    { role: "tool", callId: "1", content: '{"result":8633}' },
    { role: "tool", callId: "2", content: "error: primes.example cannot be reached", failed: true },
    { role: "assistant", content: answer, note: "148 tokens · 42.0 tokens/s · first after 0.3 s" },
  ];
  const nodes = list.map((node, i) => ({
    ...node,
    id: `${id}-${i}`,
    parent: i ? `${id}-${i - 1}` : null,
    state: "done",
  }));
  const order = nodes.map(({ id }) => id);
  return {
    id,
    title,
    named: true,
    createdAt: 2,
    updatedAt: 2,
    nodes: Object.fromEntries(nodes.map((node) => [node.id, node])),
    order,
    leaf: order.at(-1),
  };
}
