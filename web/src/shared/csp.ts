// Content security policies: browsers report what they block in an event, and not in the error.

export type Violation = Pick<SecurityPolicyViolationEvent, "effectiveDirective" | "blockedURI">;

/** How long after the failure browsers may take to report it. */
const REPORT_DELAY_MS = 50;

/** Records what a content security policy blocks, until `end`. */
export function watchPolicy() {
  const target = globalThis as Partial<Pick<typeof globalThis, "addEventListener" | "removeEventListener">>;
  const seen: Violation[] = [];
  const see = (e: SecurityPolicyViolationEvent) => {
    if (e.disposition === "enforce") seen.push(e);
  };
  target.addEventListener?.("securitypolicyviolation", see);
  return {
    /** The violation of one of these directives for which `of` holds. */
    async violation(directives: string[], of = (_: Violation) => true): Promise<Violation | undefined> {
      const find = () => seen.find((v) => directives.includes(v.effectiveDirective) && of(v));
      for (let waited = 0; waited < REPORT_DELAY_MS && !find(); waited += 10)
        await new Promise((go) => setTimeout(go, 10));
      return find();
    },
    end: () => target.removeEventListener?.("securitypolicyviolation", see),
  };
}

/** The remedy, with the source that must be allowed. */
export function allow(source: string, directive: string): string {
  return `a content security policy forbids it: allow ${source} in ${directive}`;
}
