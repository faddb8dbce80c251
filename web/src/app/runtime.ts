import type { QueryClient } from '@tanstack/react-query'
import { QueryClient as Client } from '@tanstack/react-query'
import { onSignedOut } from '@/api/client'
import { type DashboardAt, sendTick, withProgress } from '@/api/habits'
import { keepInBrowser } from '@/api/keep'
import { meQuery } from '@/api/me'
import { explain, isTemporary } from '@/api/problem'
import { Ticks } from '@/api/ticks'
import { openLive, type PageLive } from '@/realtime'
import { startBeacon } from './beacon'
import { clearToasts, toast } from '@/ui/toast'

/** What lives as long as the page. */
export type Runtime = { queryClient: QueryClient; realtime: PageLive; ticks: Ticks }

/** Puts together what lives as long as the page, and what passes between its parts. */
export function createRuntime(): Runtime {
  const queryClient = new Client({
    defaultOptions: {
      queries: {
        // Offline, a query fails and says so, rather than to wait without a word.
        networkMode: 'always',
        refetchOnReconnect: true,
        staleTime: 5_000,
        retry: (count, error) => count < 2 && isTemporary(error),
        retryDelay: (count) => (300 * 2 ** count * (1 + Math.random())) / 2,
      },
      mutations: { networkMode: 'always' },
    },
  })

  const realtime = openLive()
  startBeacon(realtime)

  const ticks = new Ticks({
    send: sendTick,
    keep: keepInBrowser(),
    onSent: (tick, progress) => {
      const queryKey = ['dashboard', tick.user]
      queryClient.setQueriesData<DashboardAt>(
        { queryKey },
        (at) => at && { ...at, dashboard: withProgress(at.dashboard, tick.habit, tick.day, progress) },
      )
      // An answer on its way may have been read before this tick: ask again.
      if (queryClient.isFetching({ queryKey }) > 0) void queryClient.invalidateQueries({ queryKey })
    },
    onRefused: (tick, error) => {
      toast({ tone: 'bad', text: `Not recorded. ${explain(error)}` })
      void queryClient.invalidateQueries({ queryKey: ['dashboard', tick.user] })
    },
  })

  onSignedOut(() => queryClient.setQueryData(meQuery.queryKey, null))

  // Back after an absence: what waits is tried at once.
  const nudge = () => {
    realtime.nudge()
    ticks.nudge()
  }
  addEventListener('online', nudge)
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && nudge())
  let phase = realtime.status().phase
  realtime.watch(() => {
    const now = realtime.status()
    if (now.phase === phase) return
    phase = now.phase
    if (phase === 'open') {
      ticks.nudge()
    }
    // Back, or cut off: find out how the server is, rather than to wait for the next poll.
    if (phase === 'open' || phase === 'waiting') void queryClient.invalidateQueries({ queryKey: ['health'] })
    if (phase === 'ended' && (now.ended === 'signed-out' || now.ended === 'revoked')) void whoIsIt()
  })

  // Ended, perhaps by another window: find out who is signed in. If it is still
  // the same person, who has signed in anew there, go on, but not for ever.
  let asked = -Infinity
  const whoIsIt = async () => {
    const before = queryClient.getQueryData(meQuery.queryKey)
    await queryClient.invalidateQueries({ queryKey: meQuery.queryKey, exact: true })
    const me = queryClient.getQueryData(meQuery.queryKey)
    if (!me || me.id !== before?.id || Date.now() - asked < 30_000) return
    asked = Date.now()
    realtime.start(me.id)
  }

  return { queryClient, realtime, ticks }
}

/** Forgets everything about the person who was here. What they ticked offline stays kept for them. */
export function forget({ queryClient, realtime, ticks }: Runtime): void {
  realtime.end()
  ticks.stop()
  clearToasts()
  queryClient.clear()
  queryClient.setQueryData(meQuery.queryKey, null)
}
