// Makes the page work without a network, and installable: see `service-worker.js`.
import { effect, signal } from "@preact/signals";
import { engine } from "./engine.ts";

/** Whether the page and the build that runs are stored. */
export const offlineReady = signal(false);

export function watchOffline(): void {
  if (!import.meta.env.PROD || !navigator.serviceWorker) return;
  const registered = navigator.serviceWorker.register("./sw.js").then(
    () => navigator.serviceWorker.ready,
    () => null, // A private window, or a server without https.
  );
  effect(() => {
    const build = engine.value?.info.wasm.build;
    if (!build) return;
    void registered.then((registration) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }) => {
        offlineReady.value = data === true;
        port1.close();
      };
      registration?.active?.postMessage({ keep: build }, [port2]);
    });
  });
}
