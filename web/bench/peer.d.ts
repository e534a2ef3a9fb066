/** What the bench calls of wllama, which only the server finds. */
export interface Timings {
  cache_n: number;
  prompt_n: number;
  predicted_n: number;
}

export class Wllama {
  constructor(paths: Record<string, string>, options: object);
  loadModelFromUrl(url: string, options: object): Promise<void>;
  cacheManager: { clear(): Promise<void> };
  getNumThreads(): number;
  createCompletion(options: { onData(chunk: { timings?: Timings }): void; [option: string]: unknown }): Promise<void>;
}
