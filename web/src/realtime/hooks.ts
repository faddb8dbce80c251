import { createContext, useContext, useEffect, useEffectEvent, useState, useSyncExternalStore } from 'react'
import type { Live, Status } from './live'
import type { Event } from './protocol'

/** The page's connection. */
export const RealtimeContext = createContext<Live | undefined>(undefined)

/** The page's connection; only below its provider. */
export function useRealtime(): Live {
  const realtime = useContext(RealtimeContext)
  if (!realtime) throw new Error('useRealtime: no RealtimeContext above this component')
  return realtime
}

/** How the page stands with live updates. */
export function useRealtimeStatus(): Status {
  const realtime = useRealtime()
  return useSyncExternalStore(realtime.watch, realtime.status)
}

/**
 * Follows a channel while the component is there. It waits for the position of
 * the answer that filled the page (`since`), so that nothing falls in between;
 * null means that there is no such answer yet.
 */
export function useChannel(
  channel: string | undefined,
  since: string | undefined | null,
  handlers: { onEvent: (event: Event) => void; onReset: () => void },
): void {
  const realtime = useRealtime()
  const onEvent = useEffectEvent(handlers.onEvent)
  const onReset = useEffectEvent(handlers.onReset)
  const ready = since !== null
  const start = useEffectEvent(() => since ?? undefined)
  useEffect(() => {
    if (channel === undefined || !ready) return
    return realtime.follow(channel, start(), { onEvent: (e) => onEvent(e), onReset: () => onReset() })
  }, [realtime, channel, ready])
}

/**
 * Who is here in the team whose channel somebody on the page follows; undefined
 * while that is not known.
 */
export function usePeople(channel: string): ReadonlySet<string> | undefined {
  const realtime = useRealtime()
  const [people, setPeople] = useState<ReadonlySet<string>>()
  useEffect(() => realtime.people(channel, setPeople), [realtime, channel])
  return people
}
