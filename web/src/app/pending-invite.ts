const key = 'crewbeat.invite'

/**
 * The invitation that brought somebody here who has to sign in first. It is kept
 * in this window only, and in no address, so that it is in no server's log.
 */
export const pendingInvite = {
  get(): string | null {
    try {
      return sessionStorage.getItem(key)
    } catch {
      return null
    }
  },
  set(token: string): void {
    try {
      sessionStorage.setItem(key, token)
    } catch {
      // Storage is blocked: the person opens the link once more.
    }
  },
  clear(): void {
    try {
      sessionStorage.removeItem(key)
    } catch {
      // Nothing was kept.
    }
  },
}
