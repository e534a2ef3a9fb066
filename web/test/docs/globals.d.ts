/** In the page of these tests. */
declare var docs: { run(url: string): Promise<string[]> };
