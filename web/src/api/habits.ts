import { keepPreviousData, queryOptions } from '@tanstack/react-query'
import { api, body, bodyAt, done, ifMatch } from './client'
import type { Tick } from './ticks'
import type { Dashboard, Habit, HabitChange, HabitRecord, NewHabit, Progress } from './types'

/** A week, and the position of the person's channel from which live updates go on. */
export type DashboardAt = { dashboard: Dashboard; position: string | undefined }

/** The channel of what happens to a person's habits. */
export function habitsChannel(userId: string): string {
  return `user:${userId}:habits`
}

/** The week that a day is in; the current one without a day. */
export function dashboardQuery(userId: string, day: string | undefined) {
  return queryOptions({
    queryKey: ['dashboard', userId, day ?? 'now'],
    queryFn: async ({ signal }): Promise<DashboardAt> => {
      const answer = api.GET('/api/v1/dashboard', { params: { query: day === undefined ? {} : { day } }, signal })
      const { value, position } = await bodyAt(habitsChannel(userId), answer)
      return { dashboard: value, position }
    },
    placeholderData: keepPreviousData,
    // The day turns while the page lies open.
    refetchInterval: 5 * 60_000,
  })
}

/** Puts what the server says about a habit into a week. */
export function withProgress(
  dashboard: Dashboard,
  habitId: string,
  day: string,
  progress: { record: HabitRecord | null } & Partial<Progress>,
): Dashboard {
  const column = dashboard.days.indexOf(day)
  return {
    ...dashboard,
    habits: dashboard.habits.map((row) =>
      row.habit.id === habitId
        ? {
            ...row,
            records: column < 0 ? row.records : row.records.with(column, progress.record),
            streak: progress.streak ?? row.streak,
            strength: progress.strength ?? row.strength,
          }
        : row,
    ),
  }
}

/** Puts ticks that are still on their way on top of a week. */
export function withPending(dashboard: Dashboard, ticks: readonly Tick[]): Dashboard {
  let seen = dashboard
  for (const tick of ticks) {
    const record: HabitRecord | null = tick.record && {
      day: tick.day,
      state: tick.record.state,
      value_milli: tick.record.value_milli ?? 0,
      note: '',
      recorded_at: new Date(tick.at).toISOString(),
      source: 'web',
    }
    seen = withProgress(seen, tick.habit, tick.day, { record })
  }
  return seen
}

/** Makes a habit. */
export function createHabit(input: NewHabit): Promise<Habit> {
  return body(api.POST('/api/v1/habits', { body: input }))
}

/** Changes a habit as it was read. */
export function changeHabit(habit: Habit, change: HabitChange): Promise<Habit> {
  return body(api.PATCH('/api/v1/habits/{id}', { params: { path: { id: habit.id }, header: ifMatch(habit.version) }, body: change }))
}

/** Puts a habit away; its records stay. */
export function archiveHabit(habit: Habit): Promise<void> {
  return done(api.DELETE('/api/v1/habits/{id}', { params: { path: { id: habit.id }, header: ifMatch(habit.version) } }))
}

/** Sends one tick. The server carries out each operation once, however often it is sent. */
export function sendTick(tick: Tick): Promise<Progress> {
  const path = { id: tick.habit, day: tick.day }
  const signal = AbortSignal.timeout(15_000)
  if (tick.record === null)
    return body(api.DELETE('/api/v1/habits/{id}/records/{day}', { params: { path, query: { client_op_id: tick.op } }, signal }))
  return body(api.PUT('/api/v1/habits/{id}/records/{day}', { params: { path }, body: { ...tick.record, client_op_id: tick.op }, signal }))
}
