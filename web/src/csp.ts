// What a content security policy refuses: browsers tell the page of it, but say nothing in the error itself.

/** Collects the directives that refuse something from now on. */
export function watchPolicy() {
  const seen = new Set<string>();
  const listen = (event: Event) => seen.add((event as SecurityPolicyViolationEvent).effectiveDirective);
  globalThis.addEventListener?.("securitypolicyviolation", listen);
  return {
    /** The browser tells a moment after it enforced the policy. */
    async refused(): Promise<ReadonlySet<string>> {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return seen;
    },
    end: () => globalThis.removeEventListener?.("securitypolicyviolation", listen),
  };
}

export function allow(source: string, directive: string): string {
  return `a content security policy forbids it: allow ${source} in ${directive}`;
}
