import { useInfiniteQuery } from '@tanstack/react-query'
import { Check } from 'lucide-react'
import { daysBetween, formatDay, relativeDay } from '@/api/day'
import { explain } from '@/api/problem'
import { activityQuery } from '@/api/teams'
import type { Activity, User } from '@/api/types'
import { useRealtimeStatus } from '@/realtime'
import { Button } from '@/ui/button'
import { cx } from '@/ui/cx'
import { Avatar, Card, Empty, Failed, Loading, Skeleton } from '@/ui/surface'
import { useOnline } from '@/ui/use-online'
import { useLiveTeam } from './live'

/** What the members did, newest first, as it happens. */
export function Feed({ me, teamId, onInvite }: { me: User; teamId: string; onInvite?: (() => void) | undefined }) {
  const query = useInfiniteQuery(activityQuery(teamId))
  const news = useLiveTeam(teamId, query.data ? query.data.pages[0]?.position : null)
  const lines = query.data?.pages.flatMap((p) => p.items) ?? []

  return (
    <Card aria-labelledby="feed-title">
      <div className="flex items-center justify-between border-b border-line px-5 py-4">
        <h2 id="feed-title" className="text-lg font-bold">
          Feed
        </h2>
        <LiveMark />
      </div>
      <p aria-live="polite" className="sr-only">
        {news.said}
      </p>
      {query.isPending ? (
        <FeedSkeleton />
      ) : query.isError && !query.data ? (
        <Failed title="The feed did not load" detail={explain(query.error)} onRetry={() => void query.refetch()} busy={query.isFetching} />
      ) : lines.length === 0 ? (
        <Empty
          art={<QuietWater />}
          title="All quiet"
          action={
            onInvite && (
              <Button look="primary" onClick={onInvite}>
                Invite someone
              </Button>
            )
          }
        >
          When a member ticks a habit they share with the team, it appears here within a second.
        </Empty>
      ) : (
        <div className="px-2 pb-3 sm:px-3">
          {byDay(lines, me.tz).map(({ day, items }) => (
            <section key={day} aria-label={title(day, me.today)}>
              <h3 className="px-3 pt-5 pb-1.5 text-[0.8125rem] font-semibold text-ink-3">{title(day, me.today)}</h3>
              <ol>
                {items.map((line) => (
                  <Line key={line.id} line={line} me={me} fresh={news.ids.has(line.id)} on={day} />
                ))}
              </ol>
            </section>
          ))}
          {query.hasNextPage && (
            <div className="grid justify-items-center pt-4 pb-2">
              <Button onClick={() => void query.fetchNextPage()} busy={query.isFetchingNextPage}>
                Show older
              </Button>
            </div>
          )}
          {query.isFetchNextPageError && (
            <p role="alert" className="px-3 py-2 text-center text-sm text-danger">
              {explain(query.error)}
            </p>
          )}
        </div>
      )}
    </Card>
  )
}

function Line({ line, me, fresh, on }: { line: Activity; me: User; fresh: boolean; on: string }) {
  return (
    <li data-activity={line.id} className={cx('flex items-center gap-3.5 rounded-2xl px-3 py-2.5', fresh && 'animate-glow')}>
      <span className="relative">
        <Avatar name={line.user_name} id={line.user_id} />
        <span
          aria-hidden="true"
          className="absolute -right-1 -bottom-1 grid size-4.5 place-items-center rounded-full bg-brand text-on-brand ring-2 ring-surface"
        >
          <Check className="size-3" strokeWidth={4} />
        </span>
      </span>
      <p className="min-w-0 flex-1 leading-snug">
        <span className="font-semibold">{line.user_id === me.id ? 'You' : line.user_name}</span> <span className="text-ink-2">ticked</span>{' '}
        <span className="font-semibold break-words">{line.habit_name}</span>
        {line.day !== on && <span className="text-ink-2"> for {relativeDay(line.day, me.today)}</span>}
      </p>
      <time dateTime={line.at} className="shrink-0 text-[0.8125rem] text-ink-3">
        {new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', timeZone: me.tz }).format(new Date(line.at))}
      </time>
    </li>
  )
}

function byDay(lines: readonly Activity[], tz: string): { day: string; items: Activity[] }[] {
  const format = new Intl.DateTimeFormat('en-CA', { year: 'numeric', month: '2-digit', day: '2-digit', timeZone: tz })
  const groups: { day: string; items: Activity[] }[] = []
  for (const line of lines) {
    const day = format.format(new Date(line.at))
    const last = groups.at(-1)
    if (last?.day === day) last.items.push(line)
    else groups.push({ day, items: [line] })
  }
  return groups
}

function title(day: string, today: string): string {
  const ahead = daysBetween(today, day)
  if (ahead === 0) return 'Today'
  if (ahead === -1) return 'Yesterday'
  return formatDay(day, { weekday: 'long', day: 'numeric', month: 'long' })
}

/** Says whether the feed is live at this moment. */
function LiveMark() {
  const { phase, blocked } = useRealtimeStatus()
  const online = useOnline()
  // A connection that the network has left under is only found out later.
  const live = phase === 'open' && online
  return (
    <span
      role="status"
      title={live && blocked ? 'This network lets no WebSocket through; updates come as a stream.' : undefined}
      className={cx(
        'inline-flex items-center gap-2 rounded-full px-2.5 py-1 text-[0.8125rem] font-semibold',
        live ? 'bg-brand-soft text-brand' : 'bg-sunken text-ink-2',
      )}
    >
      <span
        aria-hidden="true"
        className={cx('size-2 rounded-full', live ? 'bg-brand' : online ? 'animate-breathe bg-line-strong' : 'bg-line-strong')}
      />
      {live ? 'Live' : !online ? 'Offline' : phase === 'ended' ? 'Not live' : 'Connecting…'}
    </span>
  )
}

function FeedSkeleton() {
  return (
    <Loading label="Loading the feed" className="grid gap-5 p-5">
      {[0, 1, 2, 3, 4].map((i) => (
        <div key={i} className="flex items-center gap-3.5">
          <Skeleton className="size-10 rounded-full" />
          <Skeleton className={cx('h-4', i % 2 === 0 ? 'w-56' : 'w-44')} />
          <Skeleton className="ml-auto h-3.5 w-10" />
        </div>
      ))}
    </Loading>
  )
}

function QuietWater() {
  return (
    <svg
      viewBox="0 0 160 64"
      className="mb-2 h-16 text-brand"
      fill="none"
      stroke="currentColor"
      strokeWidth="2.5"
      strokeLinecap="round"
      aria-hidden="true"
    >
      <path d="M8 26c12-9 24-9 36 0s24 9 36 0 24-9 36 0 24 9 36 0" strokeOpacity="0.85" />
      <path d="M22 44c10-7 20-7 30 0s20 7 30 0 20-7 30 0" strokeOpacity="0.35" />
    </svg>
  )
}
