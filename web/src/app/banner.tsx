import { useQuery } from '@tanstack/react-query'
import { CloudOff, Gauge, Radio, type LucideIcon } from 'lucide-react'
import { healthQuery } from '@/api/health'
import { Unreachable } from '@/api/problem'
import { usePending } from '@/api/use-ticks'
import { useRealtime, useRealtimeStatus } from '@/realtime'
import { Button } from '@/ui/button'
import { cx } from '@/ui/cx'
import { useOnline } from '@/ui/use-online'

type Notice = { icon: LucideIcon; text: string; tone: 'warn' | 'calm'; action?: { label: string; run: () => void } }

/** Says honestly when something is not as it should be, and what that means. */
export function StatusBanner() {
  const notice = useNotice()
  return (
    <div role="status" className={cx(notice && 'px-4 pt-4 sm:px-8 lg:px-12')}>
      {notice && (
        <div
          className={cx(
            'mx-auto flex min-h-12 max-w-[84rem] animate-fade items-center gap-3 rounded-2xl px-4 py-1.5 text-[0.9375rem] font-medium',
            notice.tone === 'warn' ? 'bg-warn-soft text-warn' : 'bg-sunken text-ink-2',
          )}
        >
          <notice.icon aria-hidden="true" className="size-5 shrink-0" />
          <p className="flex-1 py-1.5">{notice.text}</p>
          {notice.action && (
            <Button look="quiet" className="-mr-2 !text-current" onClick={notice.action.run}>
              {notice.action.label}
            </Button>
          )}
        </div>
      )}
    </div>
  )
}

function useNotice(): Notice | undefined {
  const online = useOnline()
  const health = useQuery(healthQuery)
  const live = useRealtimeStatus()
  const realtime = useRealtime()
  const { ticks } = usePending()
  const waiting = ticks.length === 0 ? '' : ticks.length === 1 ? ' One is waiting.' : ` ${ticks.length} are waiting.`

  if (!online)
    return { icon: CloudOff, tone: 'warn', text: `You are offline. Ticks are kept on this device and sent when you are back.${waiting}` }
  if (health.error instanceof Unreachable && live.phase !== 'open')
    return {
      icon: CloudOff,
      tone: 'warn',
      text: `Crewbeat does not answer. Ticks are kept on this device and sent when it is back.${waiting}`,
      action: {
        label: 'Try now',
        run: () => {
          realtime.nudge()
          void health.refetch()
        },
      },
    }
  if (health.data?.status === 'degraded' || live.degraded) return { icon: Gauge, tone: 'warn', text: 'Degraded: slower, nothing lost.' }
  if (live.phase === 'ended') {
    const again = { label: 'Try again', run: () => realtime.nudge() }
    if (live.ended === 'too-many')
      return {
        icon: Radio,
        tone: 'calm',
        text: 'Live updates are off here: Crewbeat is open in too many windows. Close some.',
        action: again,
      }
    if (live.ended === 'outdated')
      return {
        icon: Radio,
        tone: 'calm',
        text: 'There is a newer version of this page.',
        action: { label: 'Reload', run: () => location.reload() },
      }
    if (live.ended === 'refused')
      return { icon: Radio, tone: 'calm', text: 'Live updates are off here. What you do is saved.', action: again }
    return undefined
  }
  if (live.phase === 'waiting' && live.failures > 2)
    return {
      icon: Radio,
      tone: 'calm',
      text: 'Live updates are cut off; reconnecting. What you do is saved.',
      action: { label: 'Try now', run: () => realtime.nudge() },
    }
  return undefined
}
