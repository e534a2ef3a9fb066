// What a content security policy refuses: browsers tell the page of it, but say nothing in the error itself.

/** Whether a directive refused something that is a blob, or that is none. */
export type Refused = (directive: string, blob?: boolean) => boolean;

/** Collects what is refused from now on. */
export function watchPolicy() {
  const seen: SecurityPolicyViolationEvent[] = [];
  const listen = (event: Event) => seen.push(event as SecurityPolicyViolationEvent);
  globalThis.addEventListener?.("securitypolicyviolation", listen);
  return {
    /** The browser tells a moment after it enforced the policy. */
    async refused(): Promise<Refused> {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return (directive, blob = false) =>
        seen.some((e) => e.effectiveDirective === directive && e.blockedURI.startsWith("blob") === blob);
    },
    end: () => globalThis.removeEventListener?.("securitypolicyviolation", listen),
  };
}

export function allow(source: string, directive: string): string {
  return `a content security policy forbids it: allow ${source} in ${directive}`;
}
