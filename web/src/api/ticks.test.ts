import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Problem, Unreachable } from './problem'
import { type Keep, type Tick, Ticks } from './ticks'
import type { Progress } from './types'

const progress: Progress = {
  record: null,
  streak: { current: 1, best: 1, unit: 'day' },
  strength: 0.1,
  due: true,
  done: true,
  duplicate: false,
}

/** Keeps ticks as IndexedDB does, over "reloads". */
function shelf(): Keep & { held: Map<string, Tick> } {
  const held = new Map<string, Tick>()
  return {
    held,
    all: (user) => Promise.resolve([...held.values()].filter((t) => t.user === user)),
    put: (tick) => Promise.resolve(void held.set(tick.op, tick)),
    remove: (op) => Promise.resolve(void held.delete(op)),
  }
}

/** A server whose answers are given by the test. */
function server() {
  const asked: { tick: Tick; answer: (p?: Progress) => void; fail: (e: unknown) => void }[] = []
  return {
    asked,
    send: (tick: Tick) =>
      new Promise<Progress>((resolve, reject) => asked.push({ tick, answer: (p = progress) => resolve(p), fail: reject })),
  }
}

let clock = 0
function tick(op: string, habit = 'h', record: Tick['record'] = { state: 'done' }): Tick {
  return { op, user: 'u', habit, day: '2026-11-22', record, at: ++clock }
}

const settled = () => vi.advanceTimersByTimeAsync(0)

let keep: ReturnType<typeof shelf>
let api: ReturnType<typeof server>
let sent: string[]
let refused: string[]
let ticks: Ticks

beforeEach(async () => {
  vi.useFakeTimers()
  keep = shelf()
  api = server()
  sent = []
  refused = []
  ticks = fresh()
  await ticks.start('u')
})
afterEach(() => {
  ticks.stop()
  vi.useRealTimers()
})

function fresh() {
  return new Ticks({
    send: api.send,
    keep,
    onSent: (t) => sent.push(t.op),
    onRefused: (t) => refused.push(t.op),
    random: () => 1,
  })
}

describe('a tick', () => {
  it('is pending until the server has it, and kept as long', async () => {
    ticks.add(tick('a'))
    expect(ticks.pending().ticks.map((t) => t.op)).toEqual(['a'])
    expect(keep.held.has('a')).toBe(true)
    api.asked[0]?.answer()
    await settled()
    expect(sent).toEqual(['a'])
    expect(ticks.pending()).toEqual({ ticks: [], held: false })
    expect(keep.held.size).toBe(0)
  })

  it('is shown as held and sent again, with the same operation id, when the server cannot be reached', async () => {
    ticks.add(tick('a'))
    api.asked[0]?.fail(new Unreachable('no'))
    await settled()
    expect(ticks.pending().held).toBe(true)
    await vi.advanceTimersByTimeAsync(1000)
    expect(api.asked.map((r) => r.tick.op)).toEqual(['a', 'a'])
    api.asked[1]?.answer()
    await settled()
    expect(ticks.pending()).toEqual({ ticks: [], held: false })
  })

  it.each([500, 503, 429, 408, 401])('waits when the server answers %i', async (status) => {
    ticks.add(tick('a'))
    api.asked[0]?.fail(new Problem(status, {}))
    await settled()
    expect(ticks.pending().held).toBe(true)
    expect(keep.held.has('a')).toBe(true)
  })

  it.each([404, 409, 422])('is given up when the server answers %i', async (status) => {
    ticks.add(tick('a'))
    api.asked[0]?.fail(new Problem(status, {}))
    await settled()
    expect(refused).toEqual(['a'])
    expect(ticks.pending().ticks).toEqual([])
    expect(keep.held.size).toBe(0)
  })

  it('outlives the page', async () => {
    ticks.add(tick('a'))
    api.asked[0]?.fail(new Unreachable('no'))
    await settled()
    ticks.stop()
    ticks = fresh()
    await ticks.start('u')
    expect(api.asked.at(-1)?.tick.op).toBe('a')
    api.asked.at(-1)?.answer()
    await settled()
    expect(keep.held.size).toBe(0)
  })

  it('of one person is not sent by another', async () => {
    ticks.add(tick('a'))
    api.asked[0]?.fail(new Unreachable('no'))
    await settled()
    ticks.stop()
    await ticks.start('somebody else')
    expect(ticks.pending().ticks).toEqual([])
    await vi.advanceTimersByTimeAsync(60_000)
    expect(api.asked).toHaveLength(1)
  })
})

describe('several ticks', () => {
  it('of one day go one at a time, in order', async () => {
    ticks.add(tick('a'))
    ticks.add(tick('b', 'h', null))
    expect(api.asked.map((r) => r.tick.op)).toEqual(['a'])
    api.asked[0]?.answer()
    await settled()
    expect(api.asked.map((r) => r.tick.op)).toEqual(['a', 'b'])
  })

  it('of one day that wait are one: the newest', async () => {
    ticks.add(tick('a'))
    api.asked[0]?.fail(new Unreachable('no'))
    await settled()
    ticks.add(tick('b', 'h', null))
    api.asked[1]?.fail(new Unreachable('no'))
    await settled()
    ticks.add(tick('c'))
    expect(ticks.pending().ticks.map((t) => t.op)).toEqual(['c'])
    expect([...keep.held.keys()]).toEqual(['c'])
  })

  it('of different habits do not wait for each other', () => {
    ticks.add(tick('a', 'h1'))
    ticks.add(tick('b', 'h2'))
    expect(api.asked.map((r) => r.tick.op)).toEqual(['a', 'b'])
  })

  it('are all sent at once when the network is back', async () => {
    ticks.add(tick('a', 'h1'))
    ticks.add(tick('b', 'h2'))
    for (const r of api.asked) r.fail(new Unreachable('no'))
    await settled()
    ticks.nudge()
    expect(api.asked.slice(2).map((r) => r.tick.op)).toEqual(['a', 'b'])
  })

  it('back off while the server is away', async () => {
    ticks.add(tick('a'))
    for (const wait of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      const before = api.asked.length
      api.asked.at(-1)?.fail(new Unreachable('no'))
      await vi.advanceTimersByTimeAsync(wait - 1)
      expect(api.asked).toHaveLength(before)
      await vi.advanceTimersByTimeAsync(1)
      expect(api.asked).toHaveLength(before + 1)
    }
  })
})
