/// <reference lib="webworker" />
// The script of the worker, with the builds that have one thread.
import { builds } from "../pkg/one.js";
import { serve } from "./serve.ts";

serve(builds);
