// What a session of the Prompt API is created with.
import type { ChatParams } from "./index.ts";
import { type Expected, supported } from "./prompt-input.ts";

export type SamplingMode =
  | "most-predictable"
  | "predictable"
  | "slightly-predictable"
  | "balanced"
  | "slightly-creative"
  | "creative"
  | "most-creative";

/** A tool that runs when the model calls it. */
export interface Tool {
  name: string;
  description: string;
  inputSchema: object;
  // biome-ignore lint/suspicious/noExplicitAny: the schema says what it is
  execute(...args: any[]): Promise<string>;
}

export interface CreateCoreOptions {
  expectedInputs?: Expected[];
  expectedOutputs?: Expected[];
  tools?: Tool[];
  samplingMode?: SamplingMode;
  /** In browsers only extensions may say these. They exclude `samplingMode`. */
  topK?: number;
  temperature?: number;
}

const TEMPERATURES: Record<SamplingMode, number | null> = {
  "most-predictable": 0,
  predictable: 0.3,
  "slightly-predictable": 0.5,
  // As the model's file says.
  balanced: null,
  "slightly-creative": 0.9,
  creative: 1.1,
  "most-creative": 1.4,
};

export interface Settings {
  images: boolean;
  tools: Tool[];
  params: Partial<ChatParams>;
  samplingMode: SamplingMode | null;
  topK: number | undefined;
  temperature: number | undefined;
}

/** What options ask for; null if no model with or without images can do it. @throws TypeError, RangeError */
export function settingsOf(given: CreateCoreOptions, images: boolean): Settings | null {
  const { expectedInputs, expectedOutputs, tools = [], samplingMode, topK, temperature } = given;
  for (const [i, tool] of tools.entries()) {
    const { name, description, inputSchema, execute } = tool;
    const fine = typeof name === "string" && typeof description === "string" && typeof inputSchema === "object";
    if (!fine || typeof execute !== "function")
      throw new TypeError(`tools[${i}] must have a name, a description, an inputSchema and execute`);
  }
  if (samplingMode !== undefined && !(samplingMode in TEMPERATURES))
    throw new TypeError(`samplingMode must be one of ${Object.keys(TEMPERATURES).join(", ")}, is ${samplingMode}`);
  const raw = topK !== undefined || temperature !== undefined;
  if (raw && samplingMode !== undefined) throw new TypeError("samplingMode excludes topK and temperature");
  if (topK !== undefined && !(topK >= 1)) throw new RangeError(`topK must be at least 1, is ${topK}`);
  if (temperature !== undefined && !(temperature >= 0))
    throw new RangeError(`temperature must be at least 0, is ${temperature}`);
  const inputs = ["text", "tool-response", ...(images ? (["image"] as const) : [])] as const;
  const [takes, makes] = [supported(expectedInputs, inputs), supported(expectedOutputs, ["text", "tool-call"])];
  if (!takes || !makes) return null;
  const mode = raw ? null : (samplingMode ?? "balanced");
  const degrees = mode ? TEMPERATURES[mode] : temperature === undefined ? null : Math.min(temperature, 2);
  const most = topK === undefined ? undefined : Math.floor(Math.min(topK, 2 ** 16));
  const params = { ...(degrees !== null && { temperature: degrees }), ...(most && { top_k: most }) };
  const seen = !!expectedInputs?.some(({ type }) => type === "image");
  return {
    images: seen,
    tools,
    params,
    samplingMode: mode,
    topK: most,
    temperature: raw ? (degrees ?? undefined) : undefined,
  };
}
