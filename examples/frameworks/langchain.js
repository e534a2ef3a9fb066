// A chain of LangChain.
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { ChatOpenAI } from "@langchain/openai";
import { local } from "./model.js";
import { page } from "./page.js";

const { apiKey, ...configuration } = local;
const model = new ChatOpenAI({ model: "local", apiKey, temperature: 0, maxTokens: 60, configuration });
const prompt = ChatPromptTemplate.fromMessages([["human", "{question}"]]);
const chain = prompt.pipe(model).pipe(new StringOutputParser());

page(async (question, show) => {
  for await (const text of await chain.stream({ question })) show(text);
});
