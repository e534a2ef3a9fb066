// A playground: answers that a JSON schema allows, and nothing else.
import { useSignal } from "@preact/signals";
import { Play, Square } from "lucide-preact";
import type { ChatUsage } from "pagelm";
import { useRef } from "preact/hooks";
import { answering, engine, failed, problem } from "./engine.ts";
import { sampling, settings } from "./settings.ts";
import { ProblemBox } from "./ui.tsx";
import { type Problem, seconds } from "./words.ts";

const EXAMPLES = [
  {
    name: "A person",
    prompt: "Marie Curie was born in Warsaw in 1867 and won two Nobel prizes. Who is she?",
    schema: {
      type: "object",
      properties: {
        name: { type: "string" },
        born: { type: "integer" },
        city: { type: "string" },
        prizes: { type: "integer", minimum: 0 },
      },
      required: ["name", "born", "city", "prizes"],
      additionalProperties: false,
    },
  },
  {
    name: "A mood",
    prompt: "“The food was cold, but the people were lovely.” What is the mood of this review?",
    schema: {
      type: "object",
      properties: { mood: { enum: ["good", "mixed", "bad"] }, why: { type: "string", maxLength: 120 } },
      required: ["mood", "why"],
      additionalProperties: false,
    },
  },
  {
    name: "A list",
    prompt: "Name three animals of the sea and how many legs each has.",
    schema: {
      type: "array",
      minItems: 3,
      maxItems: 3,
      items: {
        type: "object",
        properties: { animal: { type: "string", maxLength: 24 }, legs: { type: "integer", minimum: 0 } },
        required: ["animal", "legs"],
        additionalProperties: false,
      },
    },
  },
] as const;

const pretty = (value: unknown) => JSON.stringify(value, null, 2);

function parsed(text: string): { value?: Record<string, unknown>; why?: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return { value: value as Record<string, unknown> };
    return { why: "A schema is an object." };
  } catch (e) {
    return { why: `This is no JSON: ${(e as Error).message}` };
  }
}

export function Schema() {
  const prompt = useSignal<string>(EXAMPLES[0].prompt);
  const schema = useSignal(pretty(EXAMPLES[0].schema));
  const output = useSignal("");
  const note = useSignal("");
  const wrong = useSignal<Problem | null>(null);
  const stopping = useRef<AbortController | undefined>(undefined);
  const { value, why } = parsed(schema.value);

  const run = async () => {
    const model = engine.value;
    if (!model || !value || answering.value) return;
    stopping.current = new AbortController();
    const { signal } = stopping.current;
    answering.value = true;
    wrong.value = null;
    output.value = "";
    note.value = "Reading the prompt";
    const startedAt = performance.now();
    let reason: string | null = null;
    let usage: ChatUsage | null = null;
    try {
      const { system } = settings.value;
      const stream = await model.chat.completions.create({
        ...sampling(),
        messages: [
          ...(system.trim() ? [{ role: "system" as const, content: system }] : []),
          { role: "user", content: prompt.value },
        ],
        response_format: { type: "json_schema", json_schema: { name: "answer", schema: value, strict: true } },
        reasoning_effort: "none",
        stream: true,
        stream_options: { include_usage: true },
        signal,
      });
      for await (const chunk of stream) {
        output.value += chunk.choices[0]?.delta.content ?? "";
        reason = chunk.choices[0]?.finish_reason ?? reason;
        usage = chunk.usage ?? usage;
      }
      const took = `${usage?.completion_tokens} tokens in ${seconds(performance.now() - startedAt)}`;
      if (reason === "stop") {
        output.value = pretty(JSON.parse(output.value));
        note.value = `Complete: it fits the schema · ${took}`;
      } else note.value = `Cut before its end · ${took}. Allow a longer answer in the settings.`;
    } catch (e) {
      note.value = signal.aborted ? "Stopped." : "";
      if (!signal.aborted) {
        failed(e);
        wrong.value = problem.value;
        problem.value = null;
      }
    } finally {
      answering.value = false;
    }
  };

  return (
    <div class="view">
      <header class="hero">
        <h1>JSON by a schema</h1>
        <p>Each token is chosen among those that the schema allows, so the answer always fits.</p>
      </header>
      <fieldset class="row" aria-label="Examples">
        {EXAMPLES.map((example) => (
          <button
            key={example.name}
            type="button"
            class="chip"
            onClick={() => {
              prompt.value = example.prompt;
              schema.value = pretty(example.schema);
              output.value = "";
              note.value = "";
            }}
          >
            {example.name}
          </button>
        ))}
      </fieldset>
      <label for="schema-prompt">Question</label>
      <textarea
        id="schema-prompt"
        rows={2}
        value={prompt}
        onInput={(event) => {
          prompt.value = event.currentTarget.value;
        }}
      />
      <div class="halves">
        <div>
          <label for="schema">Schema</label>
          <textarea
            id="schema"
            class="mono"
            rows={16}
            spellcheck={false}
            value={schema}
            aria-invalid={why !== undefined}
            aria-describedby="schema-why"
            onInput={(event) => {
              schema.value = event.currentTarget.value;
            }}
          />
          <p id="schema-why" class="small bad">
            {why}
          </p>
        </div>
        <div>
          <label for="schema-output">Answer</label>
          <output id="schema-output" class="mono box" for="schema-prompt schema">
            {output.value}
          </output>
          <p class="small soft" role="status">
            {answering.value ? "" : note.value}
          </p>
        </div>
      </div>
      <ProblemBox problem={wrong.value} />
      <div class="row">
        {answering.value ? (
          <button id="schema-stop" type="button" class="stop" onClick={() => stopping.current?.abort()}>
            <Square aria-hidden="true" />
            Stop
          </button>
        ) : (
          <button
            id="schema-run"
            type="button"
            class="primary"
            disabled={!engine.value || !value}
            onClick={() => void run()}
          >
            <Play aria-hidden="true" />
            Ask
          </button>
        )}
        {!engine.value && (
          <span class="soft small">
            Choose a model <a href="./">first</a>.
          </span>
        )}
      </div>
    </div>
  );
}
