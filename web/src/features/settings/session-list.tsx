import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Laptop, Smartphone } from 'lucide-react'
import { endSession, endSessions, meQuery, sessionsQuery } from '@/api/me'
import { explain } from '@/api/problem'
import { Button } from '@/ui/button'
import { Failed, Loading, Skeleton } from '@/ui/surface'
import { toast } from '@/ui/toast'

/** The places where the person is signed in, each with a way to end it. */
export function SessionList() {
  const sessions = useQuery(sessionsQuery)
  const queryClient = useQueryClient()
  const end = useMutation({
    mutationFn: endSession,
    onSuccess: () => toast({ text: 'That session has ended' }),
    onError: (error) => toast({ tone: 'bad', text: explain(error) }),
    onSettled: () => queryClient.invalidateQueries({ queryKey: sessionsQuery.queryKey }),
  })
  const endAll = useMutation({
    mutationFn: endSessions,
    onSuccess: () => queryClient.invalidateQueries({ queryKey: meQuery.queryKey, exact: true }),
    onError: (error) => toast({ tone: 'bad', text: explain(error) }),
  })
  if (sessions.isPending)
    return (
      <Loading label="Loading your sessions" className="grid gap-4">
        <Skeleton className="h-10" />
        <Skeleton className="h-10" />
      </Loading>
    )
  if (sessions.isError && !sessions.data)
    return (
      <Failed
        title="Your sessions did not load"
        detail={explain(sessions.error)}
        onRetry={() => void sessions.refetch()}
        busy={sessions.isFetching}
      />
    )
  return (
    <div className="grid justify-items-start gap-3">
      <ul className="grid w-full gap-2">
        {sessions.data.map((s) => {
          const device = deviceOf(s.user_agent)
          const Icon = device.phone ? Smartphone : Laptop
          return (
            <li key={s.id} className="flex min-h-14 items-center gap-3.5">
              <span aria-hidden="true" className="grid size-11 shrink-0 place-items-center rounded-2xl bg-sunken text-ink-2">
                <Icon className="size-5" />
              </span>
              <span className="grid min-w-0 flex-1">
                <span className="truncate font-semibold">{device.name}</span>
                <span className="truncate text-[0.8125rem] text-ink-3">
                  {s.current ? 'This one, in use now' : `Last seen ${ago(s.last_seen_at)}`}
                  {s.ip && ` · ${s.ip}`}
                </span>
              </span>
              {!s.current && (
                <Button
                  size="sm"
                  className="min-h-11"
                  aria-label={`End the session on ${device.name}`}
                  busy={end.isPending && end.variables === s.id}
                  onClick={() => end.mutate(s.id)}
                >
                  End
                </Button>
              )}
            </li>
          )
        })}
      </ul>
      {sessions.data.length > 1 && (
        <Button size="sm" className="min-h-11" busy={endAll.isPending} onClick={() => endAll.mutate()}>
          Sign out everywhere
        </Button>
      )}
    </div>
  )
}

/** A browser's name for people, from what it calls itself. */
export function deviceOf(agent: string): { name: string; phone: boolean } {
  const browser = /Edg\//.test(agent)
    ? 'Edge'
    : /Firefox\//.test(agent)
      ? 'Firefox'
      : /Chrome\//.test(agent)
        ? 'Chrome'
        : /Safari\//.test(agent)
          ? 'Safari'
          : (agent.split(/[/\s]/)[0] ?? '') || 'Unknown browser'
  const system = /iPhone|iPad/.test(agent)
    ? 'iOS'
    : /Android/.test(agent)
      ? 'Android'
      : /Windows/.test(agent)
        ? 'Windows'
        : /Mac OS X/.test(agent)
          ? 'macOS'
          : /Linux/.test(agent)
            ? 'Linux'
            : undefined
  return { name: system ? `${browser} on ${system}` : browser, phone: /iPhone|Android.*Mobile/.test(agent) }
}

function ago(at: string): string {
  const minutes = Math.max(0, Math.round((Date.now() - Date.parse(at)) / 60_000))
  if (minutes < 2) return 'just now'
  if (minutes < 60) return `${minutes} minutes ago`
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} hours ago`
  return `${Math.round(minutes / 1440)} days ago`
}
