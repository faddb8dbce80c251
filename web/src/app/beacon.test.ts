import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Event } from '@/realtime'
import { anEvent } from '@/test/fake-rt'
import { startBeacon } from './beacon'

const happened = Date.parse('2026-11-22T08:00:00Z')
let show: (event: Event) => void
let posted: unknown[]
let chance: number

beforeEach(() => {
  vi.useFakeTimers({ now: happened + 5000, toFake: ['Date', 'setTimeout', 'requestAnimationFrame'] })
  posted = []
  chance = 0
  startBeacon({ onShown: (f) => (show = f) }, { random: () => chance, post: (body) => posted.push(JSON.parse(body)) })
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
})

/** An event that came 40 ms after it had happened, to a browser whose clock is 4960 ms fast. */
const event = (n: number): Event => ({ ...anEvent('team:1:activity', n), received: happened + 40, skew: -4960 })

it('reports when it was received and when it was on the screen, by the server’s clock', () => {
  show(event(1))
  vi.advanceTimersByTime(100)
  expect(posted).toHaveLength(1)
  const [{ received_ms, rendered_ms }] = posted as [{ received_ms: number; rendered_ms: number }]
  expect(received_ms).toBe(40)
  expect(rendered_ms).toBeGreaterThan(40)
  expect(rendered_ms).toBeLessThan(140)
})

it('reports one event in a hundred', () => {
  chance = 0.01
  show(event(1))
  chance = 0.0099
  vi.advanceTimersByTime(100)
  expect(posted).toHaveLength(0)
  show(event(2))
  vi.advanceTimersByTime(100)
  expect(posted).toHaveLength(1)
})

it('reports at most once in ten seconds', () => {
  for (let i = 0; i < 30; i++) {
    show(event(i))
    vi.advanceTimersByTime(1000)
  }
  expect(posted).toHaveLength(3)
})

it('reports nothing of what nobody sees', () => {
  vi.spyOn(document, 'visibilityState', 'get').mockReturnValue('hidden')
  show(event(1))
  vi.advanceTimersByTime(100)
  expect(posted).toEqual([])
})

it('never reports what cannot be', () => {
  show({ ...event(1), received: happened - 50, skew: -10_000 })
  vi.advanceTimersByTime(100)
  expect(posted).toEqual([{ received_ms: 0, rendered_ms: 0 }])
})
