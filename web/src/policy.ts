// Content security policies: browsers tell of what they forbid in an event, and not in the error.

type Violation = Pick<SecurityPolicyViolationEvent, "effectiveDirective" | "blockedURI">;

/** Watches for a content security policy that forbids something, while that is tried. */
export function watchPolicy(): { violation(): Promise<Violation | undefined>; end(): void } {
  const target = globalThis as Partial<Pick<typeof globalThis, "addEventListener" | "removeEventListener">>;
  let found: Violation | undefined;
  const see = (e: SecurityPolicyViolationEvent) => {
    if (e.disposition === "enforce") found = e;
  };
  target.addEventListener?.("securitypolicyviolation", see);
  return {
    /** What it forbade. The event may come after the failure. */
    async violation() {
      for (let turn = 0; turn < 3 && !found; turn++) await new Promise((next) => setTimeout(next));
      return found;
    },
    end: () => target.removeEventListener?.("securitypolicyviolation", see),
  };
}

/** What must be allowed. */
export function forbids({ effectiveDirective, blockedURI }: Violation, url = blockedURI): string {
  const source = blockedURI === "wasm-eval" ? "'wasm-unsafe-eval'" : /^https?:/.test(url) ? new URL(url).origin : url;
  const whose = "the content security policy of the page or of the worker's script";
  return `${whose} forbids it: ${effectiveDirective} must have ${source}`;
}
