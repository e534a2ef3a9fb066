// A worker that only remembers what it was sent, and says what a test lets it say.

/** @typedef {import("../../src/shared/protocol.ts").ToWorker} ToWorker */
/** @typedef {import("../../src/shared/protocol.ts").FromWorker} FromWorker */
/** @typedef {import("../../src/page/client.ts").Port} Port */

/** @implements {Port} */
export class FakePort {
  sent = /** @type {ToWorker[]} */ ([]);
  terminated = 0;
  onmessage = /** @type {Port["onmessage"]} */ (null);
  onerror = /** @type {Port["onerror"]} */ (null);
  onmessageerror = /** @type {Port["onmessageerror"]} */ (null);

  /** @param {ToWorker} message */
  postMessage(message) {
    // A real one clones it.
    this.sent.push({ ...message });
  }

  terminate() {
    this.terminated++;
  }

  /** @param {FromWorker} data */
  say(data) {
    this.onmessage?.({ data });
  }

  /** Says a piece of what comes of a request. @param {number} id @param {unknown} value @param {number[]} journal */
  piece(id, value, journal = []) {
    this.say({ op: "pieces", id, values: [value], journal });
  }

  /** What was sent as a request of this kind. @template {import("../../src/shared/protocol.ts").Op} K @param {K} op */
  asked(op) {
    const found = this.sent.find((m) => m.op === op);
    if (!found) throw new Error(`nothing asked to ${op}`);
    return /** @type {Extract<ToWorker, { op: K }>} */ (found);
  }
}
