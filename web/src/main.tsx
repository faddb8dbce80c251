import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { healthQuery } from '@/api/health'
import { Page } from './app/page'
import { createPageRouter } from './app/routes'
import { createRuntime } from './app/runtime'
import { watchTheme } from './app/theme'
import './ui/theme.css'

watchTheme()
const runtime = createRuntime()
const router = createPageRouter(runtime)

const place = document.getElementById('root')
if (!place) throw new Error('index.html has no #root')
createRoot(place).render(
  <StrictMode>
    <Page runtime={runtime} router={router} />
  </StrictMode>,
)

// Tracing is not needed to paint: it comes when the browser has time for it,
// and where a server takes the spans.
const whenIdle = window.requestIdleCallback ?? ((f: () => void) => setTimeout(f, 300))
whenIdle(() => {
  void traced()
})

async function traced() {
  const health = await runtime.queryClient.fetchQuery(healthQuery).catch(() => undefined)
  if (!health?.traces) return
  // Without it the page is as good.
  const tracing = await import('./app/tracing').catch(() => undefined)
  tracing?.startTracing(runtime.realtime)
}
