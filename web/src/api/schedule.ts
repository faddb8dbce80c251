import { addDays, type Day, daysBetween, formatDay, weekday, weekdayNames } from './day'
import type { Schedule } from './types'

/** Says when a habit is due, in a few words. */
export function describeSchedule(s: Schedule, weekStart: number): string {
  switch (s.type) {
    case 'daily':
      return 'Every day'
    case 'weekdays': {
      const days = new Set(s.weekdays)
      if (days.size === 7) return 'Every day'
      if (days.size === 5 && !days.has(0) && !days.has(6)) return 'Monday to Friday'
      if (days.size === 2 && days.has(0) && days.has(6)) return 'Weekends'
      return weekdayNames(weekStart)
        .filter((d) => days.has(d.value))
        .map((d) => d.short)
        .join(', ')
    }
    case 'n_per_week':
      return s.n === 1 ? 'Once a week' : `${s.n} × a week`
    case 'n_per_month':
      return s.n === 1 ? 'Once a month' : `${s.n} × a month`
    case 'every_n_days':
      return s.n === 1 ? 'Every day' : `Every ${s.n} days`
  }
}

/**
 * The next days on which a schedule that starts on `start` asks for the habit,
 * from `from` on. Nothing for schedules that leave the day open.
 */
export function nextDue(s: Schedule, start: Day, from: Day, count: number): Day[] {
  const due: Day[] = []
  for (let i = 0; i < 60 && due.length < count; i++) {
    const day = addDays(from, i)
    const since = daysBetween(start, day)
    if (since < 0) continue
    if (
      s.type === 'daily' ||
      (s.type === 'weekdays' && s.weekdays.includes(weekday(day))) ||
      (s.type === 'every_n_days' && since % Math.max(1, s.n) === 0)
    )
      due.push(day)
  }
  return due
}

/** A line that shows what a schedule comes to: "Next due today, Wed and Fri". */
export function previewSchedule(s: Schedule, today: Day): string {
  if (s.type === 'n_per_week') return s.n === 1 ? 'Any one day of each week' : `Any ${s.n} days of each week`
  if (s.type === 'n_per_month') return s.n === 1 ? 'Any one day of each month' : `Any ${s.n} days of each month`
  const days = nextDue(s, today, today, 3)
  if (days.length === 0) return 'Pick at least one day'
  const names = days.map((d) => {
    const ahead = daysBetween(today, d)
    if (ahead === 0) return 'today'
    return formatDay(d, ahead < 7 ? { weekday: 'short' } : { weekday: 'short', day: 'numeric', month: 'short' })
  })
  const last = names.pop()
  return names.length > 0 ? `Next due ${names.join(', ')} and ${last}` : `Next due ${last}`
}
