import { QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { TicksContext } from '@/api/use-ticks'
import { RealtimeContext } from '@/realtime'
import { createPageRouter } from './routes'
import type { Runtime } from './runtime'

/** The whole page. */
export function Page({ runtime, router }: { runtime: Runtime; router: ReturnType<typeof createPageRouter> }) {
  return (
    <QueryClientProvider client={runtime.queryClient}>
      <RealtimeContext value={runtime.realtime}>
        <TicksContext value={runtime.ticks}>
          <RouterProvider router={router} context={runtime} />
        </TicksContext>
      </RealtimeContext>
    </QueryClientProvider>
  )
}
