import { describe, expect, it } from 'vitest'
import { addDays, daysBetween, formatDay, isDay, relativeDay, startOfWeek, weekday, weekdayNames } from './day'
import { describeSchedule, nextDue, previewSchedule } from './schedule'
import type { Schedule } from './types'

const daily: Schedule = { type: 'daily', weekdays: [], n: 0 }
const on = (...weekdays: number[]): Schedule => ({ type: 'weekdays', weekdays, n: 0 })
const n = (type: 'n_per_week' | 'n_per_month' | 'every_n_days', n: number): Schedule => ({ type, weekdays: [], n })

describe('days', () => {
  it('are counted across a change of the clocks', () => {
    // 25 October 2026 has 25 hours in Berlin, 29 March 23.
    expect(addDays('2026-10-24', 2)).toBe('2026-10-26')
    expect(addDays('2026-03-28', 2)).toBe('2026-03-30')
    expect(daysBetween('2026-03-01', '2026-04-01')).toBe(31)
  })

  it('are counted across years and leap days', () => {
    expect(addDays('2027-12-31', 1)).toBe('2028-01-01')
    expect(addDays('2028-02-28', 1)).toBe('2028-02-29')
    expect(addDays('2027-02-28', 1)).toBe('2027-03-01')
  })

  it('know their weekday and week', () => {
    expect(weekday('2026-11-22')).toBe(0)
    expect(startOfWeek('2026-11-22', 1)).toBe('2026-11-16')
    expect(startOfWeek('2026-11-22', 0)).toBe('2026-11-22')
    expect(startOfWeek('2026-11-22', 6)).toBe('2026-11-21')
    expect(weekdayNames(1).map((d) => d.short)).toEqual(['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'])
    expect(weekdayNames(6)[0]).toEqual({ value: 6, letter: 'S', short: 'Sat', long: 'Saturday' })
  })

  it.each([
    ['2026-11-22', true],
    ['2026-02-29', false],
    ['2026-13-01', false],
    ['2026-1-1', false],
    ['tomorrow', false],
    ['2026-11-22; drop', false],
  ])('%s is a day: %s', (text, want) => {
    expect(isDay(text)).toBe(want)
  })

  it('are named as people would', () => {
    expect(relativeDay('2026-11-22', '2026-11-22')).toBe('today')
    expect(relativeDay('2026-11-21', '2026-11-22')).toBe('yesterday')
    expect(formatDay('2026-11-22', { weekday: 'short' })).toBe('Sun')
  })
})

describe('a schedule', () => {
  it.each([
    [daily, 'Every day'],
    [on(1, 2, 3, 4, 5), 'Monday to Friday'],
    [on(0, 6), 'Weekends'],
    [on(0, 1, 2, 3, 4, 5, 6), 'Every day'],
    [on(5, 1), 'Mon, Fri'],
    [n('n_per_week', 1), 'Once a week'],
    [n('n_per_week', 3), '3 × a week'],
    [n('n_per_month', 4), '4 × a month'],
    [n('every_n_days', 2), 'Every 2 days'],
  ])('%j reads as %s', (schedule, want) => {
    expect(describeSchedule(schedule, 1)).toBe(want)
  })

  it('is previewed from today on', () => {
    const sunday = '2026-11-22'
    expect(previewSchedule(on(1, 3), sunday)).toBe('Next due Mon, Wed and Mon 30 Nov')
    expect(previewSchedule(daily, sunday)).toBe('Next due today, Mon and Tue')
    expect(previewSchedule(n('every_n_days', 3), sunday)).toBe('Next due today, Wed and Sat')
    expect(previewSchedule(on(), sunday)).toBe('Pick at least one day')
    expect(previewSchedule(n('n_per_week', 2), sunday)).toBe('Any 2 days of each week')
  })

  it('asks for nothing before its start', () => {
    expect(nextDue(daily, '2026-11-25', '2026-11-22', 2)).toEqual(['2026-11-25', '2026-11-26'])
    expect(nextDue(n('every_n_days', 2), '2026-11-21', '2026-11-22', 2)).toEqual(['2026-11-23', '2026-11-25'])
  })
})
