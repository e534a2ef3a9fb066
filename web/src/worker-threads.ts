/// <reference lib="webworker" />
// The script of the worker and of its threads, with the builds that share memory.
import { builds } from "../pkg/threads.js";
import { serve } from "./serve.ts";

serve(builds);
