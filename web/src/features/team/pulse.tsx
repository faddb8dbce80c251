import { useInfiniteQuery, useQuery } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { activityQuery, teamsQuery } from '@/api/teams'
import type { Membership, User } from '@/api/types'
import { cx } from '@/ui/cx'
import { Avatar, Card } from '@/ui/surface'
import { useLiveTeam } from './live'

/** The newest few lines of the first team, beside one's own week. */
export function CrewPulse({ me, linkTo }: { me: User; linkTo: (teamId: string, label: string) => ReactNode }) {
  const teams = useQuery(teamsQuery)
  const first = teams.data?.[0]
  return first ? <Pulse key={first.team.id} me={me} membership={first} linkTo={linkTo} /> : null
}

function Pulse({
  me,
  membership: { team },
  linkTo,
}: {
  me: User
  membership: Membership
  linkTo: (teamId: string, label: string) => ReactNode
}) {
  const feed = useInfiniteQuery(activityQuery(team.id))
  const news = useLiveTeam(team.id, feed.data ? feed.data.pages[0]?.position : null)
  const lines = feed.data?.pages[0]?.items.filter((l) => l.user_id !== me.id).slice(0, 5) ?? []
  if (lines.length === 0) return null
  return (
    <Card aria-label={`Newest in ${team.name}`} className="grid grid-cols-[minmax(0,1fr)] gap-3 p-5">
      <div className="-my-2.5 flex items-center justify-between gap-3">
        <h2 className="truncate text-[0.9375rem] font-bold">{team.name}</h2>
        {linkTo(team.id, 'See all')}
      </div>
      <ol className="-mx-2 grid grid-cols-[minmax(0,1fr)]">
        {lines.map((l) => (
          <li key={l.id} className={cx('flex items-center gap-3 rounded-xl px-2 py-1.5', news.ids.has(l.id) && 'animate-glow')}>
            <Avatar name={l.user_name} id={l.user_id} className="size-8 text-xs" />
            <p className="min-w-0 flex-1 truncate text-sm">
              <b className="font-semibold">{l.user_name.split(' ')[0]}</b> <span className="text-ink-2">{l.habit_name}</span>
            </p>
            <time dateTime={l.at} className="shrink-0 text-xs text-ink-3">
              {when(l.at, me.tz)}
            </time>
          </li>
        ))}
      </ol>
    </Card>
  )
}

function when(at: string, tz: string): string {
  const date = new Date(at)
  const day = new Intl.DateTimeFormat('en-CA', { timeZone: tz, dateStyle: 'short' })
  return day.format(date) === day.format(new Date())
    ? new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', timeZone: tz }).format(date)
    : new Intl.DateTimeFormat('en-GB', { weekday: 'short', timeZone: tz }).format(date)
}
