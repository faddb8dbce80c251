import { createContext, useContext, useSyncExternalStore } from 'react'
import type { Pending, Ticks } from './ticks'

/** The person's ticks on their way to the server. */
export const TicksContext = createContext<Ticks | undefined>(undefined)

/** The ticks on their way; only below the provider. */
export function useTicks(): Ticks {
  const ticks = useContext(TicksContext)
  if (!ticks) throw new Error('useTicks: no TicksContext above this component')
  return ticks
}

/** What the server has not confirmed yet. */
export function usePending(): Pending {
  const ticks = useTicks()
  return useSyncExternalStore(ticks.watch, ticks.pending)
}
