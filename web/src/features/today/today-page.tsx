import { useQuery } from '@tanstack/react-query'
import { ChevronLeft, ChevronRight, Plus } from 'lucide-react'
import { type ReactNode, useState } from 'react'
import { addDays, type Day, formatDay, startOfWeek } from '@/api/day'
import { dashboardQuery, withPending } from '@/api/habits'
import { explain } from '@/api/problem'
import type { Dashboard, DashboardHabit, Habit, User } from '@/api/types'
import { usePending } from '@/api/use-ticks'
import { Button, IconButton } from '@/ui/button'
import { DayBars, Ring } from '@/ui/ring'
import { Card, Empty, Failed, Loading, PageTitle, Skeleton } from '@/ui/surface'
import { AmountDialog } from './amount-dialog'
import { progressOf } from './cell'
import { useLiveHabits } from './live'
import { tapped, useToggle } from './use-toggle'
import { WeekGrid } from './week-grid'

export type TodayProps = {
  me: User
  /** a day of the week to show; this week without one */
  day: Day | undefined
  onDay: (day: Day | undefined) => void
  onNew: () => void
  onEdit: (habit: Habit) => void
  onArchive: (habit: Habit) => void
  /** stands beside the week where there is room */
  aside?: ReactNode
}

/** The week with one-tap ticks. */
export function TodayPage({ me, day, onDay, onNew, onEdit, onArchive, aside }: TodayProps) {
  const query = useQuery(dashboardQuery(me.id, day))
  const pending = usePending()
  useLiveHabits(me.id, query.data && !query.isPlaceholderData ? query.data.position : null)

  return (
    <div className="mx-auto grid max-w-[84rem] gap-6 px-4 py-6 sm:px-8 sm:py-10 lg:px-12">
      {query.isPending ? (
        <TodaySkeleton />
      ) : query.isError && !query.data ? (
        <Failed title="Your week did not load" detail={explain(query.error)} onRetry={() => void query.refetch()} busy={query.isFetching} />
      ) : (
        <Week
          me={me}
          dashboard={withPending(query.data.dashboard, pending.ticks)}
          held={pending.held ? new Set(pending.ticks.map((t) => `${t.habit} ${t.day}`)) : new Set()}
          stale={query.isPlaceholderData}
          onDay={onDay}
          onNew={onNew}
          onEdit={onEdit}
          onArchive={onArchive}
          aside={aside}
        />
      )}
    </div>
  )
}

function Week({
  me,
  dashboard,
  held,
  stale,
  onDay,
  onNew,
  onEdit,
  onArchive,
  aside,
}: Omit<TodayProps, 'day'> & { dashboard: Dashboard; held: ReadonlySet<string>; stale: boolean }) {
  const { days, today, habits } = dashboard
  const toggle = useToggle(me.id)
  const [asking, setAsking] = useState<{ row: DashboardHabit; column: number; day: Day }>()
  const column = days.indexOf(today)
  const isThisWeek = column >= 0
  const progress = isThisWeek ? progressOf(habits, column) : undefined

  return (
    <>
      <header className="flex items-center justify-between gap-5">
        <div className="grid gap-1">
          <p className="text-[0.9375rem] font-medium text-ink-2">{greeting(me)}</p>
          <PageTitle>
            {/* The year would only be noise here. */}
            {isThisWeek ? formatDay(today, { weekday: 'long', day: 'numeric', month: 'long' }) : weekName(days)}
          </PageTitle>
        </div>
        {progress && habits.length > 0 && <DayProgress {...progress} />}
      </header>

      <div className="flex flex-wrap items-center gap-x-2 gap-y-3">
        <nav aria-label="Weeks" className="-ml-2.5 flex items-center">
          <IconButton label="Week before" onClick={() => onDay(addDays(days[0] ?? today, -7))}>
            <ChevronLeft aria-hidden="true" className="size-5" />
          </IconButton>
          <span aria-live="polite" className="min-w-[7.5rem] text-center text-[0.9375rem] font-semibold">
            {isThisWeek ? 'This week' : weekName(days)}
          </span>
          <IconButton
            label="Week after"
            disabled={isThisWeek}
            onClick={() => {
              const next = addDays(days[0] ?? today, 7)
              onDay(next >= startOfWeek(today, me.week_start) ? undefined : next)
            }}
          >
            <ChevronRight aria-hidden="true" className="size-5" />
          </IconButton>
        </nav>
        {!isThisWeek && (
          <Button size="sm" className="min-h-11" onClick={() => onDay(undefined)}>
            Back to today
          </Button>
        )}
        <Button look="primary" className="ml-auto" onClick={onNew}>
          <Plus aria-hidden="true" className="size-4.5" strokeWidth={2.5} />
          New habit
        </Button>
      </div>

      <div className="grid items-start gap-6 xl:grid-cols-[minmax(0,1fr)_18rem] 2xl:grid-cols-[minmax(0,1fr)_21rem]">
        <Card aria-label="Week" aria-busy={stale || undefined} className={stale ? 'opacity-60 transition-opacity' : undefined}>
          {habits.length === 0 ? (
            <Empty
              art={<EmptyWeek />}
              title="A week full of possibilities"
              action={
                <Button look="primary" size="lg" onClick={onNew}>
                  <Plus aria-hidden="true" className="size-5" />
                  Create your first habit
                </Button>
              }
            >
              Start with something so small that you can do it on a bad day. Each tick makes it a little stronger.
            </Empty>
          ) : (
            <WeekGrid
              dashboard={dashboard}
              held={held}
              weekStart={me.week_start}
              actions={{
                onTap: (row, c, d) => toggle(row, c, d, tapped(row, c)),
                onSkip: (row, c, d) => toggle(row, c, d, { state: 'skip' }),
                onAmount: (row, c, d) => setAsking({ row, column: c, day: d }),
                onEdit,
                onArchive,
              }}
            />
          )}
        </Card>
        <div className="grid items-start gap-6 md:grid-cols-2 xl:grid-cols-[minmax(0,1fr)]">
          {habits.length > 0 && <WeekSummary dashboard={dashboard} />}
          {aside}
        </div>
      </div>
      {asking && (
        <AmountDialog
          {...asking}
          onClose={() => setAsking(undefined)}
          onAmount={(value_milli) => toggle(asking.row, asking.column, asking.day, { state: 'done', value_milli })}
        />
      )}
    </>
  )
}

function DayProgress({ done, of }: { done: number; of: number }) {
  const all = of > 0 && done === of
  return (
    <div className="flex items-center gap-3.5">
      <p className="hidden text-right text-[0.9375rem] leading-snug text-ink-2 sm:block">
        <span className="block font-bold text-ink">{all ? 'All done' : of === 0 ? 'A day off' : `${of - done} to go`}</span>
        {all ? 'Enjoy your day' : 'today'}
      </p>
      <Ring value={of === 0 ? 0 : done / of} size={64} width={6} label={`Today: ${done} of ${of} done`} className="text-brand">
        <span className="text-[0.9375rem] font-bold text-ink">
          {done}/{of}
        </span>
      </Ring>
    </div>
  )
}

function WeekSummary({ dashboard }: { dashboard: Dashboard }) {
  const { days, habits, today } = dashboard
  const perDay = days.map((_, c) => progressOf(habits, c))
  const past = perDay.filter((_, c) => (days[c] ?? '') <= today)
  const done = past.reduce((sum, p) => sum + p.done, 0)
  const of = past.reduce((sum, p) => sum + p.of, 0)
  const longest = habits.toSorted((a, b) => b.streak.current - a.streak.current)[0]
  return (
    <Card aria-label="The week so far" className="grid gap-4 p-5">
      <h2 className="text-[0.9375rem] font-bold">The week so far</h2>
      <p className="flex items-baseline gap-2.5">
        <span className="text-3xl font-bold tracking-tight">{of === 0 ? '–' : `${Math.round((100 * done) / of)} %`}</span>
        <span className="text-sm text-ink-2">
          {done} of {of} done
        </span>
      </p>
      <DayBars
        label="Done per day"
        bars={days.map((d, i) => ({
          name: formatDay(d, { weekday: 'long' }),
          letter: formatDay(d, { weekday: 'narrow' }),
          value: perDay[i]?.done ?? 0,
          of: perDay[i]?.of ?? 0,
          now: d === today,
        }))}
      />
      {longest && longest.streak.current > 1 && (
        <p className="border-t border-line pt-3.5 text-sm text-ink-2">
          Longest run: <b className="font-semibold text-ink">{longest.habit.name}</b>, {longest.streak.current} {longest.streak.unit}s in a
          row.
        </p>
      )}
    </Card>
  )
}

function greeting(me: User): string {
  const hour = Number(new Intl.DateTimeFormat('en-GB', { hour: '2-digit', hourCycle: 'h23', timeZone: me.tz }).format())
  const first = me.name.split(' ')[0]
  if (hour < 5) return `Still up, ${first}?`
  if (hour < 12) return `Good morning, ${first}`
  if (hour < 18) return `Good afternoon, ${first}`
  return `Good evening, ${first}`
}

function weekName(days: readonly Day[]): string {
  const first = days[0]
  const last = days.at(-1)
  if (first === undefined || last === undefined) return ''
  const end = formatDay(last, { day: 'numeric', month: 'short' })
  return first.slice(0, 7) === last.slice(0, 7)
    ? `${Number(first.slice(8))} – ${end}`
    : `${formatDay(first, { day: 'numeric', month: 'short' })} – ${end}`
}

function EmptyWeek() {
  return (
    <svg viewBox="0 0 220 72" className="mb-3 h-20 text-brand" fill="none" aria-hidden="true">
      {Array.from({ length: 7 }, (_, i) => (
        <circle
          key={i}
          cx={20 + i * 30}
          cy={36}
          r={11}
          stroke="currentColor"
          strokeOpacity={0.2 + i * 0.11}
          strokeWidth={2.5}
          strokeDasharray={i === 6 ? undefined : '3 5'}
        />
      ))}
      <circle cx={200} cy={36} r={11} fill="currentColor" />
      <path d="m195 36.5 3.5 3.5 6.5-7" className="stroke-on-brand" strokeWidth={2.6} strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  )
}

function TodaySkeleton() {
  return (
    <Loading label="Loading your week" className="grid gap-6">
      <div className="flex items-center justify-between">
        <div className="grid gap-3">
          <Skeleton className="h-4 w-36" />
          <Skeleton className="h-9 w-64" />
        </div>
        <Skeleton className="size-16 rounded-full" />
      </div>
      <div className="flex justify-between">
        <Skeleton className="h-11 w-44" />
        <Skeleton className="h-11 w-32" />
      </div>
      <Card className="grid gap-px overflow-hidden">
        {[0, 1, 2, 3].map((i) => (
          <div key={i} className="flex flex-wrap items-center gap-4 border-b border-line p-4 last:border-0">
            <Skeleton className="size-11 rounded-2xl" />
            <Skeleton className="h-4 w-40" />
            <div className="flex w-full justify-between md:ml-auto md:w-[26rem]">
              {[0, 1, 2, 3, 4, 5, 6].map((c) => (
                <Skeleton key={c} className="size-9 rounded-full" />
              ))}
            </div>
          </div>
        ))}
      </Card>
    </Loading>
  )
}
