// What a session of the Prompt API is created with.
import type { ChatParams } from "./index.ts";
import { type ContentType, type Expected, error, supported } from "./prompt-input.ts";

export type SamplingMode =
  | "most-predictable"
  | "predictable"
  | "slightly-predictable"
  | "balanced"
  | "slightly-creative"
  | "creative"
  | "most-creative";

export interface Tool {
  name: string;
  description: string;
  /** A JSON schema. What the model writes fits it. */
  inputSchema: object;
  /** Runs when the model calls it. Without it the page is given the calls: all tools of a session have it, or none. */
  // biome-ignore lint/suspicious/noExplicitAny: the schema says what it is
  execute?(...args: any[]): Promise<string>;
}

/** How much the model thinks before it answers. */
export interface Thinking {
  effort?: "none" | "low" | "medium" | "high";
  /** Thoughts are not given to pages. */
  includeThoughts?: false;
}

export interface CreateCoreOptions {
  expectedInputs?: Expected[];
  expectedOutputs?: Expected[];
  tools?: Tool[];
  samplingMode?: SamplingMode;
  thinking?: Thinking;
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
  /** What inputs may have. */
  types: ReadonlySet<ContentType>;
  tools: Tool[];
  /** Whether the page runs the tools itself. */
  open: boolean;
  params: Partial<ChatParams>;
  samplingMode: SamplingMode | null;
  topK: number | undefined;
  temperature: number | undefined;
}

/** What options ask for; null if no model with or without images can do it. @throws TypeError, RangeError */
export function settingsOf(given: CreateCoreOptions, images: boolean): Settings | null {
  const { expectedInputs, expectedOutputs, tools = [], samplingMode, thinking, topK, temperature } = given;
  const open = checked(tools, given);
  if (samplingMode !== undefined && !(samplingMode in TEMPERATURES))
    throw new TypeError(`samplingMode must be one of ${Object.keys(TEMPERATURES).join(", ")}, is ${samplingMode}`);
  const raw = topK !== undefined || temperature !== undefined;
  if (raw && samplingMode !== undefined) throw new TypeError("samplingMode excludes topK and temperature");
  if (topK !== undefined && !(topK >= 1)) throw new RangeError(`topK must be at least 1, is ${topK}`);
  if (temperature !== undefined && !(temperature >= 0))
    throw new RangeError(`temperature must be at least 0, is ${temperature}`);
  const inputs = ["text", "tool-call", "tool-response", ...(images ? (["image"] as const) : [])] as const;
  const [takes, makes] = [supported(expectedInputs, inputs), supported(expectedOutputs, ["text", "tool-call"])];
  if (!takes || !makes) return null;
  const mode = raw ? null : (samplingMode ?? "balanced");
  const degrees = mode ? TEMPERATURES[mode] : temperature === undefined ? null : Math.min(temperature, 2);
  const most = topK === undefined ? undefined : Math.floor(Math.min(topK, 2 ** 16));
  const params = {
    ...(degrees !== null && { temperature: degrees }),
    ...(most && { top_k: most }),
    ...thoughts(thinking),
  };
  return {
    types: new Set((expectedInputs ?? []).map(({ type }) => type)),
    tools,
    open,
    params,
    samplingMode: mode,
    topK: most,
    temperature: raw ? (degrees ?? undefined) : undefined,
  };
}

/** Whether the page runs the tools. @throws TypeError */
function checked(tools: Tool[], { expectedInputs, expectedOutputs }: CreateCoreOptions): boolean {
  for (const [i, { name, description, inputSchema, execute }] of tools.entries()) {
    const fine = typeof name === "string" && typeof description === "string" && typeof inputSchema === "object";
    if (!fine || (execute !== undefined && typeof execute !== "function"))
      throw new TypeError(`tools[${i}] must have a name, a description and an inputSchema; execute must be a function`);
  }
  const without = tools.filter(({ execute }) => !execute);
  if (without.length === 0) return false;
  if (without.length < tools.length) throw new TypeError("tools must all have execute, or none of them");
  const [takes, makes] = [expectedInputs, expectedOutputs].map((all) => all?.map(({ type }) => type) ?? []);
  if (!takes?.includes("tool-response") || !makes?.includes("tool-call"))
    throw new TypeError("tools without execute need tool-call in expectedOutputs and tool-response in expectedInputs");
  return true;
}

/** Parameters of an effort. @throws TypeError, DOMException */
export function thoughts({ effort, includeThoughts }: Thinking = {}): Partial<ChatParams> {
  if (includeThoughts) throw error("NotSupportedError", "thinking.includeThoughts is not supported");
  if (effort === undefined) return {};
  const efforts = ["none", "low", "medium", "high"];
  if (!efforts.includes(effort))
    throw new TypeError(`thinking.effort must be one of ${efforts.join(", ")}, is ${effort}`);
  return { reasoning_effort: effort };
}
