// Calls of the AI SDK as requests of OpenAI's API.
import type {
  LanguageModelV4CallOptions,
  LanguageModelV4FilePart,
  LanguageModelV4Message,
  LanguageModelV4ToolResultOutput,
  SharedV4Warning,
} from "@ai-sdk/provider";
import {
  type ChatMessage,
  type ChatParams,
  type ChatTool,
  type ChatToolCall,
  type ImagePart,
  PagelmError,
  type TextPart,
} from "./index.ts";

/** A request, and what of the call cannot be heeded. */
export interface Asked {
  params: ChatParams;
  warnings: SharedV4Warning[];
}

/** What a call asks for. */
export function asked(call: LanguageModelV4CallOptions): Asked {
  const warnings: SharedV4Warning[] = [];
  const { responseFormat: format, reasoning, toolChoice } = call;
  const tools = toolsOf(call, warnings);
  if (reasoning === "max")
    warnings.push({ type: "compatibility", feature: "reasoning", details: '"max" is treated as "xhigh"' });
  const effort = reasoning === "max" ? "xhigh" : reasoning;
  const params: ChatParams = {
    messages: call.prompt.flatMap((message, i) => messagesOf(message, `prompt[${i}]`, warnings)),
    max_tokens: call.maxOutputTokens ?? null,
    temperature: call.temperature ?? null,
    top_p: call.topP ?? null,
    top_k: call.topK ?? null,
    presence_penalty: call.presencePenalty ?? null,
    frequency_penalty: call.frequencyPenalty ?? null,
    seed: call.seed ?? null,
    stop: call.stopSequences?.length ? call.stopSequences : null,
    ...(effort && effort !== "provider-default" && { reasoning_effort: effort }),
    ...(tools.length > 0 && { tools }),
    ...(tools.length > 0 && toolChoice && { tool_choice: choiceOf(toolChoice) }),
    ...(format?.type === "json" && { response_format: formatOf(format) }),
    ...(call.providerOptions?.pagelm as Partial<ChatParams> | undefined),
  };
  // What was not said is left out: the defaults are those of the model's file.
  for (const name in params) if (params[name as keyof ChatParams] === null) delete params[name as keyof ChatParams];
  return { params, warnings };
}

type Format = Extract<NonNullable<LanguageModelV4CallOptions["responseFormat"]>, { type: "json" }>;

function formatOf({ schema, name, description }: Format): NonNullable<ChatParams["response_format"]> {
  if (!schema) return { type: "json_object" };
  const json_schema = { name: name ?? "answer", schema: schema as Record<string, unknown>, strict: true };
  return { type: "json_schema", json_schema: { ...json_schema, ...(description && { description }) } };
}

function toolsOf({ tools = [] }: LanguageModelV4CallOptions, warnings: SharedV4Warning[]): ChatTool[] {
  return tools.flatMap((tool) => {
    if (tool.type === "provider") {
      warnings.push({ type: "unsupported", feature: `tool ${tool.id}`, details: "only function tools can be called" });
      return [];
    }
    const { name, description, inputSchema, inputExamples, strict } = tool;
    if (inputExamples?.length) {
      const details = "chat templates have no place for them: put them into its description";
      warnings.push({ type: "unsupported", feature: `inputExamples of tool ${name}`, details });
    }
    const parameters = inputSchema as Record<string, unknown>;
    const described = { name, parameters, ...(description && { description }) };
    return [{ type: "function", function: { ...described, ...(strict !== undefined && { strict }) } }];
  });
}

function choiceOf(
  choice: NonNullable<LanguageModelV4CallOptions["toolChoice"]>,
): NonNullable<ChatParams["tool_choice"]> {
  return choice.type === "tool" ? { type: "function", function: { name: choice.toolName } } : choice.type;
}

function messagesOf(message: LanguageModelV4Message, at: string, warnings: SharedV4Warning[]): ChatMessage[] {
  if (message.role === "system") return [{ role: "system", content: message.content }];
  if (message.role === "user") {
    const content = message.content.map((part, i) =>
      part.type === "text" ? textOf(part) : fileOf(part, `${at}.content[${i}]`),
    );
    const texts = content.filter((part) => part.type === "text");
    // Some templates take nothing but a text.
    if (content.length === 1 && texts[0]) return [{ role: "user", content: texts[0].text }];
    return [{ role: "user", content }];
  }
  if (message.role === "tool") {
    return message.content.flatMap((part, i) => {
      // The approval was for who runs the tool: the model is told of its result.
      if (part.type !== "tool-result") return [];
      const content = resultOf(part.output, `${at}.content[${i}]`);
      return [{ role: "tool", tool_call_id: part.toolCallId, content }];
    });
  }
  let content = "";
  let reasoning = "";
  const calls: ChatToolCall[] = [];
  for (const part of message.content) {
    if (part.type === "text") content += part.text;
    else if (part.type === "reasoning") reasoning += part.text;
    else if (part.type === "tool-call") {
      const { toolCallId: id, toolName: name, input } = part;
      calls.push({ id, type: "function", function: { name, arguments: JSON.stringify(input ?? {}) } });
    } else {
      const details = `the model is not told of it (${at})`;
      warnings.push({ type: "unsupported", feature: `${part.type} in an answer`, details });
    }
  }
  const rest = { ...(reasoning && { reasoning_content: reasoning }), ...(calls.length > 0 && { tool_calls: calls }) };
  return [{ role: "assistant", content: content || null, ...rest }];
}

const textOf = ({ text }: { text: string }): TextPart => ({ type: "text", text });

function fileOf({ data, mediaType, providerOptions }: LanguageModelV4FilePart, at: string): TextPart | ImagePart {
  if (data.type === "text") return textOf(data);
  const [kind] = mediaType.split("/");
  if (data.type === "reference") throw wrong(at, "a file that a provider stores; expected its bytes or its URL");
  if (kind === "image") {
    const bytes = data.type === "data" && typeof data.data !== "string" && data.data;
    const blob =
      bytes && new Blob([bytes as Uint8Array<ArrayBuffer>], { type: mediaType.endsWith("/*") ? "" : mediaType });
    const text = data.type === "url" ? String(data.url) : `data:${mediaType};base64,${data.data}`;
    const detail = providerOptions?.pagelm?.detail as "low" | "high" | undefined;
    return { type: "image_url", image_url: { url: blob || text, ...(detail && { detail }) } };
  }
  if (kind === "text" && data.type === "data") {
    const bytes = typeof data.data === "string" ? Uint8Array.from(atob(data.data), (c) => c.charCodeAt(0)) : data.data;
    return { type: "text", text: new TextDecoder().decode(bytes) };
  }
  throw wrong(at, `a file of type ${mediaType}; expected an image, or the bytes of a text`);
}

function resultOf(output: LanguageModelV4ToolResultOutput, at: string): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "json":
    case "error-json":
      return JSON.stringify(output.value);
    case "execution-denied":
      return output.reason ?? "The user did not allow this call.";
    case "content":
      return output.value
        .map((part) => {
          if (part.type === "text") return part.text;
          throw wrong(at, `a result with a ${part.type}; models are told of texts and JSON only`);
        })
        .join("\n");
  }
}

const wrong = (at: string, what: string) => new PagelmError("invalid-argument", `${at} is ${what}`, at);
