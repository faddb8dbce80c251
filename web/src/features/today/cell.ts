import { type Day, formatDay } from '@/api/day'
import type { DashboardHabit, Habit, HabitRecord } from '@/api/types'

/** What a day of a habit looks like. */
export type CellLook = 'done' | 'partial' | 'skip' | 'open' | 'missed' | 'free' | 'ahead'

/** How a day of a habit stands, as seen from today. */
export function lookOf(row: DashboardHabit, column: number, day: Day, today: Day): CellLook {
  const record = row.records[column] ?? null
  if (record?.state === 'done') return isReached(row.habit, record) ? 'done' : 'partial'
  if (record?.state === 'skip') return 'skip'
  if (day > today) return 'ahead'
  if (row.due[column] !== true) return 'free'
  return day === today ? 'open' : 'missed'
}

function isReached(habit: Habit, record: HabitRecord): boolean {
  if (habit.kind === 'yesno') return true
  return habit.target_type === 'at_most' ? record.value_milli <= habit.target_milli : record.value_milli >= habit.target_milli
}

/** "25 of 30 pages" */
export function amountOf(habit: Habit, record: HabitRecord): string {
  const unit = habit.kind === 'duration' ? 'min' : habit.unit
  return `${record.value_milli / 1000} of ${habit.target_milli / 1000} ${unit}`.trim()
}

/** What is read out for a day of a habit. */
export function describeCell(row: DashboardHabit, column: number, day: Day, today: Day): string {
  const record = row.records[column] ?? null
  const look = lookOf(row, column, day, today)
  const states: Record<CellLook, string> = {
    done: 'done',
    partial: record ? amountOf(row.habit, record) : 'begun',
    skip: 'skipped',
    open: 'due, not done yet',
    missed: 'not done',
    free: 'not due',
    ahead: row.due[column] === true ? 'due, still ahead' : 'still ahead',
  }
  return `${row.habit.name}, ${formatDay(day, { weekday: 'long', day: 'numeric', month: 'long' })}: ${states[look]}`
}

/** How much of a day's habits is done: those that are due, and those done anyway. */
export function progressOf(rows: readonly DashboardHabit[], column: number): { done: number; of: number } {
  let done = 0
  let of = 0
  for (const row of rows) {
    const record = row.records[column] ?? null
    const reached = record?.state === 'done' && isReached(row.habit, record)
    if (reached) done++
    if (reached || (row.due[column] === true && record?.state !== 'skip')) of++
  }
  return { done, of }
}
