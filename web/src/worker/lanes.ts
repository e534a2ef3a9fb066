// Generations and requests that run side by side: the engine steps them together, and each gets its own pieces.
import type { Engine } from "#bindings";
import { abortError } from "../shared/errors.ts";
import type { Task } from "./task.ts";

interface Lane {
  task: Task;
  end(error: unknown): void;
}

/** Runs what uses the engine, one thing after another. */
export type Turn = <T>(work: () => T | Promise<T>) => Promise<T>;

export class Lanes {
  #turn: Turn;
  #lanes = new Map<number, Lane>();
  #runs = false;
  /** Between the slices of a long step: one of an aborted generation is given up, others begin again. */
  #pause = () => yieldToEventLoop(() => [...this.#lanes.values()].some(({ task }) => task.signal.aborted));
  /** Something may run that could not. */
  #wake = () => {};

  constructor(turn: Turn) {
    this.#turn = turn;
  }

  /** Runs what the engine knows by this number to its end. */
  run(engine: Engine, id: number, task: Task): Promise<null> {
    return new Promise((resolve, reject) => {
      const end = (error: unknown) => {
        this.#lanes.delete(id);
        if (error) reject(error);
        else resolve(null);
      };
      this.#lanes.set(id, { task, end });
      task.wake = () => this.#wake();
      this.#wake();
      if (!this.#runs) this.#loop(engine);
    });
  }

  async #loop(engine: Engine): Promise<void> {
    this.#runs = true;
    while (this.#lanes.size) {
      // Lets messages in: an abort, more credit, another generation.
      await yieldToEventLoop();
      const change = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      for (const [id, lane] of this.#lanes) {
        if (!lane.task.signal.aborted) continue;
        await this.#turn(() => engine.stop(id));
        lane.end(abortError());
      }
      // Those whose pieces the page does not take are left out.
      const wanted = [...this.#lanes].filter(([, { task }]) => task.credit > 0).map(([id]) => id);
      const news = wanted.length ? await this.#turn(() => engine.next(Uint32Array.from(wanted), this.#pause)) : [];
      for (const { id, pieces, journal, done, error } of news) {
        const { task, end } = this.#lanes.get(id)!;
        task.pieces(pieces, journal);
        if (done) end(error);
      }
      if (!news.length && this.#lanes.size) await change;
    }
    this.#runs = false;
  }
}

/** Runs the worker's event loop once, and says what is true then; timers would wait for milliseconds. */
export function yieldToEventLoop(then = () => false): Promise<boolean> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve(then());
    };
    port2.postMessage(null);
  });
}
