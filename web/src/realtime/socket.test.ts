import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { anEvent, FakeServer } from '@/test/fake-rt'
import { Realtime } from './socket'

const ch = 'team:1:activity'

let server: FakeServer
let realtime: Realtime
let got: string[]
let resets: number

function follow(since?: string, name = ch) {
  return realtime.follow(name, since, { onEvent: (e) => got.push(e.id), onReset: () => resets++ })
}

/** Connected, subscribed from e.5. */
function connected() {
  follow('e.5')
  realtime.start()
  server.link.hello()
  server.link.say({ type: 'subscribed', ch, offset: 'e.5', epoch: 'e', recovered: true, replayed: 0 })
}

beforeEach(() => {
  vi.useFakeTimers()
  server = new FakeServer()
  realtime = new Realtime({ url: () => 'ws://x', open: server.open, random: () => 1 })
  got = []
  resets = 0
})
afterEach(() => {
  realtime.stop()
  vi.useRealTimers()
})

describe('subscribing', () => {
  it('goes on from the position of the answer that filled the page', () => {
    connected()
    expect(server.link.asked()).toEqual([{ ch, since: 'e.5' }])
  })

  it('asks for a channel that is followed later', () => {
    connected()
    follow(undefined, 'user:1:habits')
    expect(server.link.asked()).toEqual([{ ch: 'user:1:habits' }])
  })

  it('takes the position of the confirmation where it had none', () => {
    follow()
    realtime.start()
    server.link.hello()
    server.link.say({ type: 'subscribed', ch, offset: 'e.9', recovered: false })
    server.link.fall(1006)
    vi.advanceTimersByTime(500)
    server.link.hello()
    expect(server.link.asked()).toEqual([{ ch, since: 'e.9' }])
  })

  it('does not take the position of the confirmation for what is still to be replayed', () => {
    follow('e.5')
    realtime.start()
    server.link.hello()
    server.link.say({ type: 'subscribed', ch, offset: 'e.9', recovered: true, replayed: 4 })
    server.link.fall(1006)
    vi.advanceTimersByTime(500)
    server.link.hello()
    expect(server.link.asked()).toEqual([{ ch, since: 'e.5' }])
  })

  it('leaves a channel a moment after the last follower, not at once', () => {
    connected()
    const stop = follow(undefined, 'b')
    stop()
    expect(server.link.sent.some((f) => f.type === 'unsubscribe')).toBe(false)
    vi.advanceTimersByTime(1000)
    expect(server.link.sent.at(-1)).toEqual({ type: 'unsubscribe', channels: ['b'] })
  })

  it('stays on a channel that somebody follows again at once', () => {
    connected()
    follow(undefined, 'b')()
    follow(undefined, 'b')
    vi.advanceTimersByTime(5000)
    expect(server.link.sent.some((f) => f.type === 'unsubscribe')).toBe(false)
  })

  it('asks again for what was refused for a while, when it may', () => {
    connected()
    const before = server.link.sent.length
    server.link.say({ type: 'error', id: '1', code: 'rate_limited', ch, retry_after_ms: 2000 })
    vi.advanceTimersByTime(1999)
    expect(server.link.sent).toHaveLength(before)
    vi.advanceTimersByTime(1)
    expect(server.link.asked()).toEqual([{ ch, since: 'e.5' }])
  })
})

describe('events', () => {
  it('come once, however often they are delivered', () => {
    connected()
    server.link.say(anEvent(ch, 6))
    server.link.say(anEvent(ch, 6))
    server.link.say(anEvent(ch, 7))
    expect(got).toEqual(['E6', 'E7'])
  })

  it('of a channel that nobody follows are left alone', () => {
    connected()
    server.link.say(anEvent('team:2:activity', 6))
    expect(got).toEqual([])
  })

  it('survive frames that this page does not know', () => {
    connected()
    server.link.say({ type: 'confetti' })
    server.link.onmessage?.(new MessageEvent('message', { data: '{' }))
    server.link.say(anEvent(ch, 6))
    expect(got).toEqual(['E6'])
  })
})

describe('after a cut', () => {
  it('goes on from the last event: nothing missed, nothing twice', () => {
    connected()
    server.link.say(anEvent(ch, 6))
    server.link.fall(1006)
    expect(realtime.status().phase).toBe('waiting')
    vi.advanceTimersByTime(500)
    server.link.hello()
    expect(server.link.asked()).toEqual([{ ch, since: 'e.6' }])
    server.link.say(anEvent(ch, 6))
    server.link.say(anEvent(ch, 7))
    expect(got).toEqual(['E6', 'E7'])
    expect(realtime.status()).toMatchObject({ phase: 'open', failures: 0 })
  })

  it('waits longer after each failure, up to half a minute', () => {
    realtime.start()
    for (const wait of [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      const before = server.links.length
      server.link.fall(1006)
      vi.advanceTimersByTime(wait - 1)
      expect(server.links).toHaveLength(before)
      vi.advanceTimersByTime(1)
      expect(server.links).toHaveLength(before + 1)
    }
  })

  it('spreads the tries over the whole wait', () => {
    realtime = new Realtime({ url: () => 'ws://x', open: server.open, random: () => 0.25 })
    realtime.start()
    server.link.fall(1006)
    vi.advanceTimersByTime(125)
    expect(server.links).toHaveLength(2)
  })

  it('tries at once when the network is back', () => {
    connected()
    server.link.fall(1006)
    realtime.nudge()
    expect(server.links).toHaveLength(2)
    vi.advanceTimersByTime(60_000 - 1)
    expect(realtime.status().phase).not.toBe('idle')
  })

  it('loads again what cannot be replayed', () => {
    connected()
    server.link.say({ type: 'reset', ch, reason: 'trimmed', offset: 'f.100' })
    expect(resets).toBe(1)
    server.link.fall(1006)
    vi.advanceTimersByTime(500)
    server.link.hello()
    expect(server.link.asked()).toEqual([{ ch, since: 'f.100' }])
  })
})

describe('a connection', () => {
  it('answers pings', () => {
    connected()
    server.link.say({ type: 'ping' })
    expect(server.link.sent.at(-1)).toEqual({ type: 'pong' })
  })

  it('on which nothing comes any more is given up', () => {
    connected()
    const dead = server.link
    vi.advanceTimersByTime(25_000 * 1.5 + 10_000)
    expect(dead.closedWith).toBe(1000)
    expect(realtime.status().phase).toBe('waiting')
    vi.advanceTimersByTime(500)
    expect(server.links).toHaveLength(2)
  })

  it('that is pinged is kept', () => {
    connected()
    for (let i = 0; i < 20; i++) {
      vi.advanceTimersByTime(25_000)
      server.link.say({ type: 'ping' })
    }
    expect(server.links).toHaveLength(1)
  })

  it('that never greets is given up', () => {
    realtime.start()
    vi.advanceTimersByTime(20_500)
    expect(server.links).toHaveLength(2)
  })

  it.each([
    [4500, 'refused'],
    [4501, 'signed-out'],
    [4502, 'too-many'],
    [4503, 'refused'],
    [4504, 'outdated'],
    [4505, 'revoked'],
  ])('closed with %i ends for good: %s', (code, reason) => {
    connected()
    server.link.fall(code)
    vi.advanceTimersByTime(10 * 60_000)
    expect(server.links).toHaveLength(1)
    expect(realtime.status()).toMatchObject({ phase: 'ended', ended: reason })
  })

  it.each([1000, 1001, 1006, 1011, 1012, 4001, 4002, 4003, 4004, 4005, 4007, 4008])('closed with %i comes back', (code) => {
    connected()
    server.link.fall(code)
    vi.advanceTimersByTime(500)
    expect(server.links).toHaveLength(2)
  })

  it('closed for too many requests comes back much later', () => {
    connected()
    server.link.fall(4006)
    vi.advanceTimersByTime(7999)
    expect(server.links).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(server.links).toHaveLength(2)
  })

  it('that ended can be asked for again', () => {
    connected()
    server.link.fall(4502)
    realtime.nudge()
    server.link.hello()
    expect(realtime.status()).toEqual({ phase: 'open', degraded: false, failures: 0 })
  })
})

describe('a drain', () => {
  it('moves to a new connection before the old one goes, and loses nothing', () => {
    connected()
    const old = server.link
    old.say({ type: 'drain', reconnect_after_ms: 3000, deadline_ms: 10_000 })
    vi.advanceTimersByTime(2999)
    expect(server.links).toHaveLength(1)
    vi.advanceTimersByTime(1)
    const next = server.link
    next.hello()
    expect(next.asked()).toEqual([{ ch, since: 'e.5' }])

    // Until the new one has caught up, the old one still delivers.
    old.say(anEvent(ch, 6))
    expect(old.closedWith).toBeUndefined()
    next.say({ type: 'subscribed', ch, offset: 'e.6', recovered: true, replayed: 1 })
    next.say(anEvent(ch, 6))
    next.say(anEvent(ch, 7))
    expect(old.closedWith).toBe(1000)
    expect(got).toEqual(['E6', 'E7'])
    expect(realtime.status().phase).toBe('open')
  })

  it('goes on with the new connection when the old one falls first', () => {
    connected()
    const old = server.link
    old.say({ type: 'drain', reconnect_after_ms: 0, deadline_ms: 10_000 })
    vi.advanceTimersByTime(0)
    old.fall(4001)
    expect(realtime.status().phase).toBe('connecting')
    server.link.hello()
    expect(realtime.status().phase).toBe('open')
    vi.advanceTimersByTime(5000)
    expect(server.links).toHaveLength(2)
  })

  it('stays where it is when the new connection fails, and comes back when the old one goes', () => {
    connected()
    const old = server.link
    old.say({ type: 'drain', reconnect_after_ms: 0, deadline_ms: 10_000 })
    vi.advanceTimersByTime(0)
    server.link.fall(1006)
    expect(realtime.status().phase).toBe('open')
    old.fall(4001)
    vi.advanceTimersByTime(500)
    server.link.hello()
    expect(server.link.asked()).toEqual([{ ch, since: 'e.5' }])
  })
})

describe('the status', () => {
  it('says when the server is degraded, and when it is well again', () => {
    const seen: boolean[] = []
    realtime.watch(() => seen.push(realtime.status().degraded))
    connected()
    server.link.say({ type: 'status', status: 'degraded' })
    expect(realtime.status().degraded).toBe(true)
    server.link.say({ type: 'status', status: 'ok' })
    expect(realtime.status().degraded).toBe(false)
    expect(seen.slice(-2)).toEqual([true, false])
  })

  it('forgets every position when somebody else signs in', () => {
    connected()
    server.link.say(anEvent(ch, 6))
    realtime.stop()
    realtime.start()
    server.link.hello()
    expect(server.link.asked()).toEqual([{ ch }])
  })
})

describe('a person who is back', () => {
  it('finds out within seconds that the network has left under the connection', () => {
    connected()
    const old = server.link
    realtime.nudge()
    expect(old.sent.at(-1)).toEqual({ type: 'ping' })
    vi.advanceTimersByTime(4999)
    expect(realtime.status().phase).toBe('open')
    vi.advanceTimersByTime(1)
    expect(realtime.status().phase).toBe('waiting')
    expect(old.closedWith).toBe(1000)
    vi.advanceTimersByTime(500)
    expect(server.links).toHaveLength(2)
  })

  it('keeps a connection that answers', () => {
    connected()
    realtime.nudge()
    server.link.say({ type: 'pong' })
    vi.advanceTimersByTime(47_499)
    expect(realtime.status().phase).toBe('open')
    expect(server.links).toHaveLength(1)
  })
})

describe('where WebSockets are blocked', () => {
  let streams: FakeServer
  const tries = () => server.links.length + streams.links.length
  /** fails the newest socket, and waits for the next try */
  const refuse = (link = server.link) => {
    const before = tries()
    link.fall(1006)
    for (let waited = 0; tries() === before && waited < 30_000; waited += 500) vi.advanceTimersByTime(500)
  }

  beforeEach(() => {
    streams = new FakeServer()
    realtime = new Realtime({
      url: () => 'ws://x',
      open: server.open,
      stream: (places) => {
        const link = streams.open()
        link.send(JSON.stringify({ type: 'subscribe', channels: places() }))
        return link
      },
      random: () => 1,
    })
    follow('e.5')
    realtime.start()
  })

  it('a stream does for one, from the second failure on', () => {
    refuse()
    expect(streams.links).toHaveLength(0)
    refuse()
    expect(streams.link.asked()).toEqual([{ ch, since: 'e.5' }])
    streams.link.hello()
    expect(realtime.status()).toMatchObject({ phase: 'open', blocked: true, failures: 0 })
    streams.link.say(anEvent(ch, 6))
    expect(got).toEqual(['E6'])
    expect(streams.link.sent.every((f) => f.type === 'subscribe')).toBe(true)
  })

  it('a socket that is swallowed is enough', () => {
    vi.advanceTimersByTime(20_000) // nothing comes
    vi.advanceTimersByTime(500)
    expect(streams.links).toHaveLength(1)
  })

  it('neither gets through: both are tried in turn', () => {
    refuse()
    refuse()
    const order: string[] = []
    for (let i = 0; i < 4; i++) {
      const before = streams.links.length
      const newest = streams.links.at(-1)?.readyState === 0 ? streams.link : server.link
      refuse(newest)
      order.push(streams.links.length > before ? 'stream' : 'socket')
    }
    expect(order).toEqual(['socket', 'stream', 'socket', 'stream'])
  })

  it('it comes back by a stream, and moves to a socket once one gets through, without a gap', () => {
    refuse()
    refuse()
    streams.link.hello()
    streams.link.say({ type: 'subscribed', ch, offset: 'e.5', recovered: true })
    streams.link.fall(1006)
    vi.advanceTimersByTime(500)
    expect(streams.links).toHaveLength(2)
    streams.link.hello()

    // The first trial comes soon, the next ones ever more rarely.
    const sockets = server.links.length
    vi.advanceTimersByTime(3000)
    expect(server.links).toHaveLength(sockets + 1)
    server.link.fall(1006)
    expect(realtime.status().phase).toBe('open')
    vi.advanceTimersByTime(23_000)
    expect(server.links).toHaveLength(sockets + 1)
    vi.advanceTimersByTime(1000)
    expect(server.links).toHaveLength(sockets + 2)
    streams.link.say(anEvent(ch, 6))
    server.link.hello()
    expect(server.link.asked()).toEqual([{ ch, since: 'e.6' }])
    expect(streams.link.closedWith).toBeUndefined()
    server.link.say({ type: 'subscribed', ch, offset: 'e.6', recovered: true })
    expect(streams.link.closedWith).toBe(1000)
    expect(realtime.status()).toEqual({ phase: 'open', degraded: false, failures: 0 })
    server.link.say(anEvent(ch, 7))
    expect(got).toEqual(['E6', 'E7'])

    // They have worked here: it takes more to give them up.
    refuse()
    for (let i = 0; i < 3; i++) refuse()
    expect(streams.links).toHaveLength(2)
    refuse()
    expect(streams.links).toHaveLength(3)
  })

  it('what is final for one way is so for the other', () => {
    refuse()
    refuse()
    streams.link.fall(4501)
    expect(realtime.status()).toMatchObject({ phase: 'ended', ended: 'signed-out' })
    vi.advanceTimersByTime(60_000)
    expect(streams.links).toHaveLength(1)
  })

  it('a stream that drains is followed by another', () => {
    refuse()
    refuse()
    streams.link.hello()
    streams.link.say({ type: 'subscribed', ch, offset: 'e.5', recovered: true })
    streams.link.say({ type: 'drain', reconnect_after_ms: 100, deadline_ms: 9000 })
    const old = streams.link
    vi.advanceTimersByTime(100)
    expect(streams.links).toHaveLength(2)
    streams.link.hello()
    streams.link.say({ type: 'subscribed', ch, offset: 'e.5', recovered: true })
    expect(old.closedWith).toBe(1000)
    expect(realtime.status()).toMatchObject({ phase: 'open', blocked: true })
  })
})
