// Turns of many kinds in random order, with faults in between: what each brings is known, and in the end nothing is left.
import { createEngine } from "/dist/index.js";

/**
 * @typedef {import("pagelm").Engine} Engine
 * @typedef {import("pagelm").GenerateParams} Params
 * @typedef {"destroy" | "trap" | "close"} Fault
 * @typedef {{ model: string, backend: "cpu" | "webgpu", prompts: number[][], turns: number, seed: number, losses: number,
 *   disposals: number }} Options
 */

/** Numbers below `n`, from a generator that starts with `seed`. <https://en.wikipedia.org/wiki/Xorshift> @param {number} seed */
function random(seed) {
  let state = seed | 1;
  return (/** @type {number} */ n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

const sleep = (/** @type {number} */ ms) => new Promise((go) => setTimeout(go, ms));

/** Tells the workers, whose script is `/lossy.js`. @param {Fault} how */
async function fault(how) {
  const channel = new BroadcastChannel("faults");
  channel.postMessage(how);
  await sleep(20);
  channel.close();
}

/** The tokens of a generation, and the code of what ended it early. @param {AsyncGenerator<import("pagelm").Piece>} pieces @param {(n: number) => unknown} [each] */
async function tokens(pieces, each) {
  const ids = [];
  try {
    for await (const p of pieces) {
      if (p.kind === "token") ids.push(p.id);
      if (p.kind === "token" && (await each?.(ids.length)) === "stop") break;
    }
    return { ids, code: "" };
  } catch (e) {
    return { ids, code: /** @type {import("pagelm").PagelmError} */ (e).code };
  }
}

/**
 * Runs the turns: how many there were of each kind, what went wrong, what the engine held before and after, and recoveries.
 * @param {Options} options
 */
export async function soak({ model, backend, prompts, turns, seed, losses, disposals }) {
  const next = random(seed);
  const pick = /** @template T @param {T[]} all @returns {T} */ (all) => /** @type {T} */ (all[next(all.length)]);
  const wrong = /** @type {string[]} */ ([]);
  const counts = /** @type {Record<string, number>} */ ({});
  let recovered = 0;
  const create = () =>
    createEngine({
      model,
      backend,
      sequences: 4,
      contextLength: 512,
      activations: "f32",
      kvType: "f32",
      workerUrl: "/lossy.js",
      onRecover: ({ phase }) => {
        recovered += Number(phase === "recovered");
      },
    });
  let engine = await create();
  let sessions = /** @type {{ session: import("pagelm").Session, prompt: number }[]} */ ([]);

  /** All tokens that each way to run a prompt may bring, from an engine that nothing happened to. @type {Map<string, number[]>} */
  const known = new Map();
  const ways = /** @type {Params[]} */ ([
    { temperature: 0 },
    { temperature: 0.9, seed: 3 },
    { temperature: 0, repeatPenalty: 1.3 },
    { temperature: 0, grammar: { regex: "[a-z0-9 ]{200}" } },
  ]);
  const all = (/** @type {Params} */ way) => ({ ...way, maxTokens: 24, ignoreEos: !way.grammar });
  for (const [p, prompt] of prompts.entries()) {
    for (const [w, way] of ways.entries())
      known.set(`${p} ${w}`, (await tokens(engine.generate(prompt, all(way)))).ids);
  }
  const held = async () => {
    // It refuses where something is left, and forgets what is idle. For the rest it needs a GPU with a clock. What was left by the
    // page ends between two steps, a moment later.
    let left = "";
    for (let tries = 0; tries < 100; tries++) {
      left = await engine.profile({ depth: 0, reps: 1 }).then(
        () => "",
        ({ message }) => (/sessions use/.test(message) ? message : ""),
      );
      if (!left) break;
      await sleep(50);
    }
    if (left) wrong.push(left);
    const { weights, scratch, staging } = await engine.memory();
    return { held: (await engine.stats()).held, bytes: { weights, scratch, staging } };
  };
  let turn = -1;

  /** Begins a generation of a random kind: it ends as it should, or that is noted. @param {(n: number) => unknown} [each] @param {string} [code] */
  const generation = async (each, code = "") => {
    const [p, w] = [next(prompts.length), next(ways.length)];
    const said = `turn ${turn}, prompt ${p}, way ${w}`;
    const want = known.get(`${p} ${w}`) ?? [];
    const end = await tokens(engine.generate(prompts[p] ?? [], all(/** @type {Params} */ (ways[w]))), each);
    const whole = !each && !code;
    if (end.code !== code) wrong.push(`${said}: "${end.code}" in the place of "${code}"`);
    if (`${end.ids}` !== `${want.slice(0, whole ? want.length : end.ids.length)}`)
      wrong.push(`${said}: ${end.ids} in the place of ${want}`);
    return end.ids.length;
  };
  const best = (/** @type {Float32Array} */ logits) => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  const closeAll = async () => {
    for (const { session } of sessions.splice(0)) await session.close().catch(() => {});
  };

  /** @type {Record<string, () => Promise<unknown>>} */
  const kinds = {
    alone: () => generation(),
    together: () => Promise.all([generation(), generation(), generation()]),
    left: () => {
      const after = 1 + next(20);
      return generation((n) => (n >= after ? "stop" : ""));
    },
    aborted: async () => {
      const stop = new AbortController();
      const after = 1 + next(20);
      const pieces = engine.generate(pick(prompts), { ...all({ temperature: 0 }), signal: stop.signal });
      const { code } = await tokens(pieces, (n) => n === after && stop.abort());
      if (code !== "aborted") wrong.push(`turn ${turn}: "${code}" in the place of "aborted"`);
    },
    opened: async () => {
      if (sessions.length > 2) return closeAll();
      const prompt = next(prompts.length);
      const session = await engine.session();
      sessions.push({ session, prompt });
      const id = best(await session.prefill(prompts[prompt] ?? []));
      if (id !== known.get(`${prompt} 0`)?.[0]) wrong.push(`turn ${turn}: a session says ${id}`);
    },
    forked: async () => {
      const of = sessions.at(-1);
      if (!of) return generation();
      const fork = await of.session.fork();
      const restored = await engine.session({ restore: await of.session.snapshot() });
      const [first = 0, second] = known.get(`${of.prompt} 0`) ?? [];
      const ids = [best(await fork.decode(first)), best(await restored.decode(first))];
      if (ids.some((id) => id !== second)) wrong.push(`turn ${turn}: a fork and a copy say ${ids}, not ${second}`);
      await fork.close();
      await restored.close();
    },
    lost: async () => {
      const ways = /** @type {const} */ (["destroy", "trap", "close"]);
      const how = pick(ways.filter((way) => way !== "destroy" || backend === "webgpu"));
      const at = 1 + next(20);
      const [had, beside] = [recovered, generation()];
      await generation((n) => (n === at ? fault(how) : undefined));
      await beside;
      // A device's loss may be noticed by the next request only.
      for (let i = 0; i < 200 && recovered === had; i++) await Promise.all([generation(), sleep(20)]);
      if (recovered === had) wrong.push(`turn ${turn}: ${how} was not noticed`);
      // Sessions are of the engine that is gone.
      await closeAll();
    },
    disposed: async () => {
      await generation((n) => (n === 5 ? engine.dispose() : undefined), "disposed");
      sessions = [];
      engine = await create();
    },
  };

  // Losses and disposals at turns of their own, the others anywhere.
  const rare = new Map();
  for (const [kind, n] of /** @type {const} */ ([
    ["lost", losses],
    ["disposed", disposals],
  ]))
    for (let i = 0; i < n; i++) {
      let at = next(turns);
      while (rare.has(at)) at = next(turns);
      rare.set(at, kind);
    }
  // What is made when it is first needed is there then.
  await Promise.all(prompts.map((prompt) => tokens(engine.generate(prompt, all({ temperature: 0 })))));
  for (const kind of ["together", "opened", "forked"]) await kinds[kind]?.();
  await closeAll();
  const before = await held();
  for (turn = 0; turn < turns; turn++) {
    const kind = rare.get(turn) ?? pick(["alone", "together", "left", "aborted", "opened", "forked"]);
    counts[kind] = (counts[kind] ?? 0) + 1;
    await kinds[kind]?.();
  }
  await closeAll();
  const after = await held();
  engine.dispose();
  return { counts, wrong, before, after, recovered };
}
