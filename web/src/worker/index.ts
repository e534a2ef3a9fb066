/// <reference lib="webworker" />
// The script of all workers: of an engine, with whichever build, and of its threads.
import { builds } from "../../pkg/builds.js";
import { serve } from "./queue.ts";

serve(builds);
