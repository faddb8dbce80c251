import type { Habit, HabitChange, NewHabit, Schedule } from '@/api/types'

/** A habit as it stands in the form, where every schedule keeps its own settings. */
export type Draft = {
  name: string
  kind: Habit['kind']
  /** as typed */
  target: string
  unit: string
  type: Schedule['type']
  weekdays: number[]
  perWeek: number
  perMonth: number
  everyDays: number
  visibility: Habit['visibility']
  teamIds: string[]
  color: string
  icon: string
}

/** What a new habit starts from. */
export const blank: Draft = {
  name: '',
  kind: 'yesno',
  target: '',
  unit: '',
  type: 'daily',
  weekdays: [1, 3, 5],
  perWeek: 3,
  perMonth: 4,
  everyDays: 2,
  visibility: 'private',
  teamIds: [],
  color: 'teal',
  icon: 'check',
}

/** The form for a habit that exists. */
export function draftOf(h: Habit): Draft {
  const s = h.schedule
  return {
    ...blank,
    name: h.name,
    kind: h.kind,
    target: h.kind === 'yesno' ? '' : String(h.target_milli / 1000),
    unit: h.unit,
    type: s.type,
    ...(s.type === 'weekdays' ? { weekdays: s.weekdays } : {}),
    ...(s.type === 'n_per_week' ? { perWeek: s.n } : {}),
    ...(s.type === 'n_per_month' ? { perMonth: s.n } : {}),
    ...(s.type === 'every_n_days' ? { everyDays: s.n } : {}),
    visibility: h.visibility,
    teamIds: h.team_ids,
    color: h.color,
    icon: h.icon,
  }
}

/** The schedule that the form shows. */
export function scheduleOf(d: Draft): Schedule {
  switch (d.type) {
    case 'daily':
      return { type: 'daily', weekdays: [], n: 0 }
    case 'weekdays':
      return { type: 'weekdays', weekdays: d.weekdays.toSorted(), n: 0 }
    case 'n_per_week':
      return { type: 'n_per_week', weekdays: [], n: d.perWeek }
    case 'n_per_month':
      return { type: 'n_per_month', weekdays: [], n: d.perMonth }
    case 'every_n_days':
      return { type: 'every_n_days', weekdays: [], n: d.everyDays }
  }
}

/** What is wrong with the form, by field; nothing when it can be sent. */
export function faults(d: Draft): { name?: string; target?: string; schedule?: string; teams?: string } {
  const found: ReturnType<typeof faults> = {}
  if (d.name.trim() === '') found.name = 'Give the habit a name, such as “Read 20 pages”.'
  if (d.kind !== 'yesno' && !(targetMilli(d) > 0)) found.target = 'Enter a number above 0.'
  if (d.type === 'weekdays' && d.weekdays.length === 0) found.schedule = 'Pick at least one day.'
  if (d.visibility === 'named' && d.teamIds.length === 0) found.teams = 'Pick at least one team, or keep the habit to yourself.'
  return found
}

function targetMilli(d: Draft): number {
  return Math.round(Number(d.target.replace(',', '.')) * 1000)
}

/** What the API is sent to make the habit of the form. */
export function toInput(d: Draft): NewHabit {
  return { ...toChange(d), kind: d.kind }
}

/** What the API is sent to change a habit into the form. How it is counted stays. */
export function toChange(d: Draft) {
  return {
    name: d.name.trim(),
    ...(d.kind === 'yesno' ? {} : { target_milli: targetMilli(d) }),
    ...(d.kind === 'count' ? { unit: d.unit.trim() } : {}),
    schedule: scheduleOf(d),
    visibility: d.visibility,
    ...(d.visibility === 'named' ? { team_ids: d.teamIds } : {}),
    color: d.color,
    icon: d.icon,
  } satisfies HabitChange
}
