/// <reference lib="webworker" />
// The script of all workers: of an engine, with whichever build, and of its threads.
import { builds } from "#bindings";
import { serve } from "./queue.ts";

serve(builds);
