import { describe, expect, it } from 'vitest'
import { withPending, withProgress } from '@/api/habits'
import type { Dashboard, DashboardHabit, Habit, HabitRecord } from '@/api/types'
import { describeCell, lookOf, progressOf } from './cell'
import { tapped } from './use-toggle'

const today = '2026-11-18'
const days = ['2026-11-16', '2026-11-17', '2026-11-18', '2026-11-19', '2026-11-20', '2026-11-21', '2026-11-22']

const habit: Habit = {
  id: 'h',
  name: 'Read',
  kind: 'yesno',
  target_type: 'at_least',
  target_milli: 1000,
  unit: '',
  schedule: { type: 'daily', weekdays: [], n: 0 },
  assume_zero: true,
  visibility: 'private',
  team_ids: [],
  start_day: '2026-11-01',
  end_day: null,
  color: 'teal',
  icon: 'book',
  position: 0,
  archived_at: null,
  version: 1,
  created_at: '2026-11-01T00:00:00Z',
  updated_at: '2026-11-01T00:00:00Z',
}

function row(change: Partial<Habit> = {}, records: Record<number, Partial<HabitRecord>> = {}, due = true): DashboardHabit {
  return {
    habit: { ...habit, ...change },
    due: days.map(() => due),
    done: days.map(() => false),
    records: days.map((day, c) =>
      records[c] ? { day, state: 'done', value_milli: 1000, note: '', recorded_at: '', source: 'web', ...records[c] } : null,
    ),
    streak: { current: 0, best: 0, unit: 'day' },
    strength: 0,
  }
}

describe('a day of a habit', () => {
  const pages: Partial<Habit> = { kind: 'count', target_milli: 20_000, unit: 'pages' }
  const atMost: Partial<Habit> = { ...pages, target_type: 'at_most', target_milli: 2000 }

  it.each([
    ['done', row({}, { 2: {} }), 2, 'done'],
    ['open today', row(), 2, 'open'],
    ['missed before', row(), 0, 'missed'],
    ['ahead', row(), 4, 'ahead'],
    ['free when it is not due', row({}, {}, false), 0, 'free'],
    ['skipped', row({}, { 1: { state: 'skip' } }), 1, 'skip'],
    ['only noted is open still', row({}, { 2: { state: 'note' } }), 2, 'open'],
    ['done in part', row(pages, { 2: { value_milli: 12_000 } }), 2, 'partial'],
    ['done in full', row(pages, { 2: { value_milli: 20_000 } }), 2, 'done'],
    ['over what is allowed', row(atMost, { 2: { value_milli: 3000 } }), 2, 'partial'],
    ['within what is allowed', row(atMost, { 2: { value_milli: 2000 } }), 2, 'done'],
  ] as const)('%s', (_, it, column, want) => {
    expect(lookOf(it, column, days[column] ?? '', today)).toBe(want)
  })

  it('is read out with its amount', () => {
    expect(describeCell(row(pages, { 2: { value_milli: 12_500 } }), 2, today, today)).toBe('Read, Wednesday 18 November: 12.5 of 20 pages')
  })

  it('is done in full by one tap, and open again by the next', () => {
    expect(tapped(row(pages), 2)).toEqual({ state: 'done', value_milli: 20_000 })
    expect(tapped(row(), 2)).toEqual({ state: 'done' })
    expect(tapped(row({}, { 2: {} }), 2)).toBeNull()
    expect(tapped(row({}, { 2: { state: 'skip' } }), 2)).toBeNull()
  })
})

it('the progress of a day counts what is due, what was done anyway, and no skips', () => {
  expect(
    progressOf([row({}, { 2: {} }), row(), row({}, { 2: {} }, false), row({}, { 2: { state: 'skip' } }), row({}, {}, false)], 2),
  ).toEqual({ done: 2, of: 3 })
})

describe('a week', () => {
  const week: Dashboard = { day: today, today, tz: 'UTC', days, habits: [row(), row({ id: 'other' })] }

  it('shows pending ticks on top, the newest last, and leaves the rest alone', () => {
    const tick = { op: 'a', user: 'u', habit: 'h', day: today, at: 1 }
    const done = withPending(week, [{ ...tick, record: { state: 'done' as const } }])
    expect(done.habits[0]?.records[2]?.state).toBe('done')
    expect(done.habits[1]).toBe(week.habits[1])
    expect(week.habits[0]?.records[2]).toBeNull()
    const undone = withPending(week, [
      { ...tick, record: { state: 'done' as const } },
      { ...tick, op: 'b', record: null },
    ])
    expect(undone.habits[0]?.records[2]).toBeNull()
  })

  it('takes a streak also from a day of another week', () => {
    const streak = { current: 9, best: 9, unit: 'day' as const }
    const after = withProgress(week, 'h', '2026-11-01', { record: null, streak, strength: 0.5 })
    expect(after.habits[0]).toMatchObject({ streak, strength: 0.5, records: week.habits[0]?.records })
  })
})
