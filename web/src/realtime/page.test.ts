import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { anEvent, FakeServer } from '@/test/fake-rt'
import type { Port, ToPage, ToWorker } from './messages'
import { PageLive } from './page'
import { Realtime } from './socket'
import { type PagePort, Switchboard } from './switchboard'

const ch = 'team:1:activity'

/** A browser: a worker that can die, locks, and pages. */
class Browser {
  readonly server = new FakeServer()
  readonly locks = new Map<string, () => void>()
  #live: Realtime | undefined
  board = this.#boot()
  works = true

  #boot(): Switchboard {
    const live = new Realtime({ url: () => 'ws://x', open: this.server.open, random: () => 1 })
    this.#live = live
    const request = ((name: string, granted: () => void) => this.locks.set(name, granted)) as unknown as LockManager['request']
    return new Switchboard(live, { request })
  }

  /** The worker is gone, with all it knew. */
  kill() {
    this.#live?.stop()
    this.board = this.#boot()
  }

  page({ locks = true } = {}): Tab {
    return new Tab(this, locks)
  }
}

/** A page, and what it was told. */
class Tab {
  readonly got: string[] = []
  readonly shown: string[] = []
  readonly live: PageLive
  readonly own = new FakeServer()
  resets = 0
  /** nothing from the worker arrives any more */
  deaf = false
  /** and nothing from the page arrives there */
  dumb = false
  #lock = ''

  constructor(browser: Browser, locks: boolean) {
    this.live = new PageLive({
      share: () => (browser.works ? { port: this.#connect(browser), onerror: null } : undefined),
      alone: () => new Realtime({ url: () => 'ws://own', open: this.own.open, random: () => 1 }),
      hold: locks
        ? (lock) => {
            this.#lock = lock
            return Promise.resolve()
          }
        : undefined,
    })
    this.live.onShown((e) => this.shown.push(e.id))
    this.crash = () => {
      this.deaf = this.dumb = true
      browser.locks.get(this.#lock)?.()
    }
  }

  /** The page is gone, without a word. */
  readonly crash: () => void

  #connect(browser: Browser): Port<ToPage, ToWorker> {
    const { board } = browser
    const near: Port<ToPage, ToWorker> = {
      onmessage: null,
      postMessage: (m) => browser.board === board && !this.dumb && far.onmessage?.({ data: structuredClone(m) }),
      close: () => undefined,
    }
    const far: PagePort = {
      onmessage: null,
      postMessage: (m) => !this.deaf && near.onmessage?.({ data: structuredClone(m) }),
      close: () => undefined,
    }
    board.connect(far)
    return near
  }

  follow(since?: string, name = ch) {
    this.unfollow = this.live.follow(name, since, { onEvent: (e) => this.got.push(e.id), onReset: () => this.resets++ })
  }

  unfollow: () => void = () => undefined
}

let browser: Browser

beforeEach(() => {
  vi.useFakeTimers()
  browser = new Browser()
})
afterEach(() => vi.useRealTimers())

/** Lets what was promised happen. */
const settle = () => vi.advanceTimersByTimeAsync(0)

async function open(since = 'e.5', options: { locks?: boolean } = {}): Promise<Tab> {
  const tab = browser.page(options)
  tab.live.start('mira')
  tab.follow(since)
  await settle()
  return tab
}

/** Two pages on a connection that stands at e.5. */
async function two(options: { locks?: boolean } = {}): Promise<[Tab, Tab]> {
  const first = await open('e.5', options)
  browser.server.link.hello()
  browser.server.link.say({ type: 'subscribed', ch, offset: 'e.5', recovered: true, replayed: 0 })
  return [first, await open('e.5', options)]
}

describe('pages that share a worker', () => {
  it('have one connection, and both get an event once', async () => {
    const [first, second] = await two()
    browser.server.link.say(anEvent(ch, 6))
    browser.server.link.say(anEvent(ch, 6))
    expect(browser.server.links).toHaveLength(1)
    for (const tab of [first, second]) {
      expect([tab.got, tab.shown, tab.resets, tab.live.shared]).toEqual([['E6'], ['E6'], 0, true])
      expect(tab.live.status().phase).toBe('open')
    }
  })

  it('get what the others had already, from where they stand', async () => {
    await two()
    for (const n of [6, 7, 8]) browser.server.link.say(anEvent(ch, n))
    const late = await open('e.6')
    expect(late.got).toEqual(['E7', 'E8'])
    const start = await open('e.5')
    expect(start.got).toEqual(['E6', 'E7', 'E8'])
    browser.server.link.say(anEvent(ch, 9))
    expect(late.got).toEqual(['E7', 'E8', 'E9'])
  })

  it('that know of more than the worker wait for it, and get what follows', async () => {
    await two()
    const ahead = await open('e.7')
    browser.server.link.say(anEvent(ch, 6))
    browser.server.link.say(anEvent(ch, 7))
    browser.server.link.say(anEvent(ch, 8))
    await vi.advanceTimersByTimeAsync(5000)
    expect([ahead.got, ahead.resets]).toEqual([['E8'], 0])
  })

  it('that stand where nobody knows load again, and miss nothing that came meanwhile', async () => {
    await two()
    const lost = await open('e.1')
    browser.server.link.say(anEvent(ch, 6))
    expect([lost.got, lost.resets]).toEqual([[], 0])
    await vi.advanceTimersByTimeAsync(1000)
    expect([lost.got, lost.resets]).toEqual([['E6'], 1])
    browser.server.link.say(anEvent(ch, 7))
    expect(lost.got).toEqual(['E6', 'E7'])
  })

  it('all load again when the server says so', async () => {
    const tabs = await two()
    browser.server.link.say({ type: 'reset', ch, reason: 'trimmed', offset: 'f.100' })
    expect(tabs.map((t) => t.resets)).toEqual([1, 1])
    expect((await open('f.100')).resets).toBe(0)
  })

  it('all know how it stands', async () => {
    const tabs = await two()
    browser.server.link.say({ type: 'status', status: 'degraded' })
    expect(tabs.map((t) => t.live.status().degraded)).toEqual([true, true])
    browser.server.link.fall(1006)
    expect(tabs.map((t) => t.live.status().phase)).toEqual(['waiting', 'waiting'])
    tabs[1].live.nudge()
    expect(browser.server.links).toHaveLength(2)
  })

  it('do not keep events that the server does not keep', async () => {
    const [first] = await two()
    browser.server.link.say({ ...anEvent(ch, 6), class: 'ephemeral', offset: 'e.5x' })
    browser.server.link.fall(1006)
    await vi.advanceTimersByTimeAsync(500)
    browser.server.link.hello()
    expect(first.got).toEqual(['E6'])
    expect(browser.server.link.asked()).toEqual([{ ch, since: 'e.5' }])
  })
})

describe('a page that goes', () => {
  it.each([
    ['by itself', (tab: Tab) => tab.live.leave()],
    ['by a crash', (tab: Tab) => tab.crash()],
    ['by being left', (tab: Tab) => tab.live.stop()],
  ])('%s leaves the others alone, and the last one ends the connection', async (_, go) => {
    const [first, second] = await two()
    go(first)
    browser.server.link.say(anEvent(ch, 6))
    expect([first.got, second.got]).toEqual([_ === 'by being left' ? ['E6'] : [], ['E6']])
    expect(browser.server.link.closedWith).toBeUndefined()
    go(second)
    await vi.advanceTimersByTimeAsync(2000)
    expect(browser.server.link.closedWith).toBe(1000)
    expect(browser.board.size).toBe(_ === 'by being left' ? 2 : 0)
  })

  it('without locks, by a crash, is forgotten when it has been silent for long', async () => {
    const [first, second] = await two({ locks: false })
    first.crash()
    second.crash()
    await vi.advanceTimersByTimeAsync(170_000)
    expect(browser.board.size).toBe(2) // a page in the background says little
    await vi.advanceTimersByTimeAsync(60_000)
    expect(browser.board.size).toBe(0)
  })

  it('that was taken for gone begins anew from where it stood', async () => {
    const [first, second] = await two()
    browser.server.link.say(anEvent(ch, 6))
    // The browser gives the lock away, though the page lives.
    for (const granted of [...browser.locks.values()].slice(0, 1)) granted()
    browser.server.link.say(anEvent(ch, 7))
    expect(first.got).toEqual(['E6'])
    await vi.advanceTimersByTimeAsync(10_000)
    expect([first.got, second.got, first.resets]).toEqual([['E6', 'E7'], ['E6', 'E7'], 0])
  })
})

describe('signing out', () => {
  it('on one page ends it for all, who ask who they are', async () => {
    const [first, second] = await two()
    first.live.end()
    expect(first.live.status().phase).toBe('idle')
    expect(second.live.status()).toMatchObject({ phase: 'ended', ended: 'signed-out' })
    expect(browser.server.link.closedWith).toBe(1000)
  })

  it('and in again goes on from where each page stood', async () => {
    const [first, second] = await two()
    browser.server.link.say(anEvent(ch, 6))
    first.unfollow()
    first.live.end()
    first.live.start('mira')
    second.live.start('mira')
    browser.server.link.hello()
    expect(browser.server.link.asked()).toEqual([{ ch, since: 'e.6' }])
    browser.server.link.say(anEvent(ch, 7))
    expect(second.got).toEqual(['E6', 'E7'])
  })

  it('of one person, and in of another, gives nobody the other one’s connection', async () => {
    const [first, second] = await two()
    const link = browser.server.link
    first.live.start('jonas')
    expect(link.closedWith).toBe(1000)
    expect(second.live.status()).toMatchObject({ phase: 'ended', ended: 'signed-out' })
    browser.server.link.hello()
    browser.server.link.say(anEvent(ch, 6))
    expect(second.got).toEqual([])
  })
})

describe('a worker that fails', () => {
  it('to be there is done without', async () => {
    browser.works = false
    const tab = await open()
    tab.own.link.hello()
    expect(tab.own.link.asked()).toEqual([{ ch, since: 'e.5' }])
    tab.own.link.say(anEvent(ch, 6))
    expect([tab.got, tab.shown, tab.live.shared, tab.live.status().phase]).toEqual([['E6'], ['E6'], false, 'open'])
  })

  it('to answer is done without after a while', async () => {
    const tab = browser.page()
    tab.deaf = true
    tab.live.start('mira')
    tab.follow('e.5')
    await vi.advanceTimersByTimeAsync(3999)
    expect(tab.own.links).toHaveLength(0)
    await vi.advanceTimersByTimeAsync(1)
    tab.own.link.hello()
    expect(tab.own.link.asked()).toEqual([{ ch, since: 'e.5' }])
    expect(tab.resets).toBe(0)
  })

  it('later is replaced, and everybody goes on from where they stood', async () => {
    const [first, second] = await two()
    browser.server.link.say(anEvent(ch, 6))
    first.follow(undefined, 'user:1:habits')
    browser.kill()
    await vi.advanceTimersByTimeAsync(50_000)
    browser.server.link.hello()
    expect(browser.server.link.asked()).toEqual([{ ch, since: 'e.6' }, { ch: 'user:1:habits' }])
    // What was followed from no position may have missed something.
    expect([first.resets, second.resets]).toEqual([1, 0])
    browser.server.link.say(anEvent(ch, 7))
    expect([first.got, second.got]).toEqual([
      ['E6', 'E7'],
      ['E6', 'E7'],
    ])
  })
})

describe('a page that was put away whole', () => {
  it('loads again when it is back, and is live', async () => {
    const [first, second] = await two()
    first.live.leave()
    browser.server.link.say(anEvent(ch, 6))
    first.live.revive()
    await settle()
    browser.server.link.say(anEvent(ch, 7))
    expect([first.got, first.resets]).toEqual([['E7'], 1])
    expect([second.got, second.resets]).toEqual([['E6', 'E7'], 0])
  })
})

describe('who is here', () => {
  const say = (m: object) => browser.server.link.say({ type: 'presence', ch, ...m })
  const seen = (tab: Tab) => {
    const all: string[] = []
    tab.live.people(ch, (p) => all.push(p ? [...p].sort().join(' ') : '?'))
    return all
  }

  it('is told to every page, also to one that comes later', async () => {
    const [first] = await two()
    const all = seen(first)
    say({ users: ['mira'], count: 1 })
    say({ joined: ['jonas'], left: [], count: 2 })
    const late = await open('e.5')
    expect(seen(late)).toEqual(['jonas mira'])
    say({ joined: [], left: ['jonas'], count: 1 })
    expect(all).toEqual(['?', 'mira', 'jonas mira', 'mira'])
  })

  it('gives those ten seconds whom a new server has not heard of yet', async () => {
    const [first] = await two()
    const all = seen(first)
    say({ users: ['jonas', 'lena', 'mira'], count: 3 })
    say({ users: ['mira'], count: 1 })
    await vi.advanceTimersByTimeAsync(5000)
    say({ joined: ['jonas'], left: [], count: 2 })
    await vi.advanceTimersByTimeAsync(4999)
    expect(all).toEqual(['?', 'jonas lena mira'])
    await vi.advanceTimersByTimeAsync(1)
    expect(all).toEqual(['?', 'jonas lena mira', 'jonas mira'])
  })

  it('is forgotten with the right to know it', async () => {
    const [first] = await two()
    const all = seen(first)
    say({ users: ['mira'], count: 1 })
    browser.server.link.say({ type: 'error', code: 'forbidden', ch })
    expect(all).toEqual(['?', 'mira', '?'])
  })
})
