// Every entry point where there is no page, as when a page is built or drawn on a server.
import { createEngine } from "pagelm";
import "pagelm/ai-sdk";
import "pagelm/conversations";
import "pagelm/prompt-api";
import "pagelm/react";
import "pagelm/remote";
import "pagelm/share";
import "pagelm/tools";

console.log(await createEngine({ model: "http://localhost/a.gguf" }).then(String, (e) => e.code));
