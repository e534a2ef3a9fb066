// Where downloads are: models, and what the set-up script got.
import { homedir } from "node:os";
import { join } from "node:path";

const { PAGELM_CACHE, XDG_CACHE_HOME } = process.env;
export const cache = PAGELM_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), ".cache"), "pagelm");
