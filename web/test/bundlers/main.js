import { answer, show } from "./app.js";

show(await answer().catch((e) => ({ error: `${e.code}: ${e.message}` })));
