// The compiler derives the type of a value from its JSON schema.
import { defineTool, type FromSchema, generateObject, type Llm } from "pagelm/tools";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Properties of an intersection, as one object. */
type Flat<T> = T extends (infer I)[] ? Flat<I>[] : T extends object ? { [K in keyof T]: Flat<T[K]> } : T;

function same<_A, _B>(_yes: Same<_A, _B>): void {}

const order = {
  type: "object",
  properties: {
    id: { type: "integer" },
    name: { type: ["string", "null"] },
    kind: { enum: ["a", "b", 3] },
    fixed: { const: true },
    lines: {
      type: "array",
      items: { type: "object", properties: { sku: { type: "string" }, price: { type: "number" } }, required: ["sku"] },
    },
    either: { anyOf: [{ type: "boolean" }, { type: "array" }] },
    free: { type: "object", additionalProperties: { type: "number" } },
    other: { $ref: "#/$defs/other" },
  },
  required: ["id", "name", "kind", "fixed", "lines"],
} as const;

interface Order {
  id: number;
  name: string | null;
  kind: "a" | "b" | 3;
  fixed: true;
  lines: { sku: string; price?: number }[];
  either?: boolean | unknown[];
  free?: Record<string, number>;
  other?: unknown;
}
same<Flat<FromSchema<typeof order>>, Flat<Order>>(true);
same<FromSchema<object>, unknown>(true);

export const tool = defineTool({
  name: "get_time",
  parameters: {
    type: "object",
    properties: { zone: { type: "string" }, days: { type: "number" } },
    required: ["zone"],
  },
  execute(args) {
    same<Flat<typeof args>, { zone: string; days?: number }>(true);
    return args.zone;
  },
});

export async function ask(llm: Llm): Promise<void> {
  const { object } = await generateObject(llm, { schema: { enum: ["yes", "no"] }, messages: [] });
  same<typeof object, "yes" | "no" | null>(true);
}
