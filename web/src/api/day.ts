/**
 * Civil days as the API writes them: `YYYY-MM-DD`, without a zone. Arithmetic is
 * done on UTC midnights, where every day has 24 hours.
 */
export type Day = string

const dayMs = 86_400_000

function utc(day: Day): number {
  return Date.parse(`${day}T00:00:00Z`)
}

/** The day n days after (or, negative, before) day. */
export function addDays(day: Day, n: number): Day {
  return new Date(utc(day) + n * dayMs).toISOString().slice(0, 10)
}

/** How many days b is after a. */
export function daysBetween(a: Day, b: Day): number {
  return Math.round((utc(b) - utc(a)) / dayMs)
}

/** 0 is Sunday. */
export function weekday(day: Day): number {
  return new Date(utc(day)).getUTCDay()
}

/** The first day of the week that day is in. */
export function startOfWeek(day: Day, weekStart: number): Day {
  return addDays(day, -((weekday(day) - weekStart + 7) % 7))
}

/** Reports whether text is a day that exists. */
export function isDay(text: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && new Date(utc(text)).toJSON()?.slice(0, 10) === text
}

const formats = new Map<string, Intl.DateTimeFormat>()

/** Writes a day for people. */
export function formatDay(day: Day, options: Intl.DateTimeFormatOptions): string {
  const key = JSON.stringify(options)
  let format = formats.get(key)
  if (!format) {
    format = new Intl.DateTimeFormat('en-GB', { ...options, timeZone: 'UTC' })
    formats.set(key, format)
  }
  return format.format(utc(day))
}

/** The names of the weekdays in the order of a person's week. */
export function weekdayNames(weekStart: number): { value: number; letter: string; short: string; long: string }[] {
  return Array.from({ length: 7 }, (_, i) => {
    const value = (weekStart + i) % 7
    const day = addDays('2023-01-01', value) // a Sunday
    return {
      value,
      letter: formatDay(day, { weekday: 'narrow' }),
      short: formatDay(day, { weekday: 'short' }),
      long: formatDay(day, { weekday: 'long' }),
    }
  })
}

/** "today", "yesterday" or the day's name, as seen from today. */
export function relativeDay(day: Day, today: Day): string {
  switch (daysBetween(today, day)) {
    case 0:
      return 'today'
    case -1:
      return 'yesterday'
    case 1:
      return 'tomorrow'
    default:
      return formatDay(day, { weekday: 'long', day: 'numeric', month: 'long' })
  }
}
