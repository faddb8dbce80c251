import { useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef } from 'react'
import { type DashboardAt, habitsChannel, withProgress } from '@/api/habits'
import type { HabitRecord } from '@/api/types'
import { type Event, useChannel } from '@/realtime'

/**
 * Keeps the weeks in memory up to date with what the person does elsewhere. A
 * record is shown at once; streaks and strength, which only the server can
 * work out, are asked for shortly after.
 */
export function useLiveHabits(userId: string, position: string | undefined | null): void {
  const queryClient = useQueryClient()
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  useEffect(() => () => clearTimeout(timer.current), [])

  // Cancels an answer on its way: it may have been read before the event.
  const reload = () => queryClient.invalidateQueries({ queryKey: ['dashboard', userId] })
  const soon = () => {
    clearTimeout(timer.current)
    timer.current = setTimeout(() => void reload(), 120)
  }

  useChannel(habitsChannel(userId), position, {
    onReset: () => void reload(),
    onEvent: (event) => {
      const change = recordChange(event)
      if (!change) {
        soon()
        return
      }
      let news = false
      for (const [key, at] of queryClient.getQueriesData<DashboardAt>({ queryKey: ['dashboard', userId] })) {
        if (!at || holds(at, change)) continue
        news = true
        queryClient.setQueryData<DashboardAt>(key, { ...at, dashboard: withProgress(at.dashboard, change.habit, change.day, change) })
      }
      // What this page did itself came back with its streak already.
      if (news) soon()
    },
  })
}

type Change = { habit: string; day: string; record: HabitRecord | null }

function recordChange(event: Event): Change | undefined {
  if (event.event !== 'habit_completed' && event.event !== 'habit_record_changed') return undefined
  const { habit_id, day, record } = event.data
  if (typeof habit_id !== 'string' || typeof day !== 'string') return undefined
  if (record !== null && record !== undefined && !isHabitRecord(record)) return undefined
  return { habit: habit_id, day, record: record ?? null }
}

function isHabitRecord(value: unknown): value is HabitRecord {
  return typeof value === 'object' && value !== null && 'state' in value && 'value_milli' in value && 'day' in value
}

function holds(at: DashboardAt, change: Change): boolean {
  const column = at.dashboard.days.indexOf(change.day)
  const row = at.dashboard.habits.find((h) => h.habit.id === change.habit)
  if (column < 0 || !row) return false
  const known = row.records[column] ?? null
  if (known === null || change.record === null) return known === change.record
  return known.state === change.record.state && known.value_milli === change.record.value_milli && known.note === change.record.note
}
