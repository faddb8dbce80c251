/** What a close code asks of the page. */
export type AfterClose =
  | { again: true; /** waiting is to start from at least this many failures */ failures: number }
  | { again: false; reason: 'signed-out' | 'revoked' | 'too-many' | 'outdated' | 'refused' }

const final: Record<number, Extract<AfterClose, { again: false }>['reason']> = {
  4500: 'refused', // bad request
  4501: 'signed-out', // unauthenticated
  4502: 'too-many', // connection limit
  4503: 'refused', // frame too big
  4504: 'outdated', // version
  4505: 'revoked', // the session was ended
}

/**
 * What to do after a connection was closed with code. Final are only the codes
 * that say so; whatever else happens to a connection, it is worth another try.
 */
export function afterClose(code: number): AfterClose {
  const reason = final[code]
  if (reason) return { again: false, reason }
  // 4006, rate limited: at once would only be refused again.
  return { again: true, failures: code === 4006 ? 4 : 0 }
}

/**
 * How long to wait before the next try: full jitter over an exponential ceiling,
 * so that a thousand pages that lost the same server do not come back together.
 */
export function backoff(failures: number, random: () => number): number {
  const ceiling = Math.min(30_000, 500 * 2 ** Math.min(failures, 10))
  return Math.round(random() * ceiling)
}
