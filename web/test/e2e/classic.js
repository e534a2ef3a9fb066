// A worker's entry as Turbopack and webpack under Next.js make it: a classic script that gets its chunks from the page. As a
// module, or started by anybody else, it fails.
const chunk = self.location.hash.slice(1);
if (!chunk) throw new Error("the page did not start this worker");
importScripts(chunk);
