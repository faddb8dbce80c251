import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { StreamWire } from './stream'
import type { Place } from './wire'

/** A stream as its server sees it. */
class Served {
  readonly url: URL
  readonly aborted: () => boolean
  #body!: ReadableStreamDefaultController<Uint8Array>
  readonly answer: Response

  constructor(url: string, signal: AbortSignal, status: number, type: string) {
    this.url = new URL(url, 'http://x')
    this.aborted = () => signal.aborted
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (this.#body = c) })
    signal.addEventListener('abort', () => this.#body.error(signal.reason))
    this.answer = new Response(status === 204 ? null : body, { status, headers: { 'Content-Type': type } })
  }

  async send(text: string): Promise<void> {
    this.#body.enqueue(new TextEncoder().encode(text))
    await settled()
  }

  async end(): Promise<void> {
    this.#body.close()
    await settled()
  }

  async cut(): Promise<void> {
    this.#body.error(new TypeError('network error'))
    await settled()
  }
}

const settled = () => vi.advanceTimersByTimeAsync(0)

let served: Served[]
let got: unknown[]
let closed: number[]
let places: Place[]
let status: number
let type: string

function open(): StreamWire {
  const wire = new StreamWire({
    url: '/rt/v1/events',
    places: () => places,
    fetch: (url, init) => {
      if (status === 0) return Promise.reject(new TypeError('no network'))
      const s = new Served(url as string, init!.signal!, status, type)
      served.push(s)
      return Promise.resolve(s.answer)
    },
  })
  wire.onmessage = ({ data }) => got.push(JSON.parse(data as string))
  wire.onclose = ({ code }) => closed.push(code)
  return wire
}

const hello = 'retry: 1500\n\ndata: {"type":"hello"}\n\n'

beforeEach(() => {
  vi.useFakeTimers()
  served = []
  got = []
  closed = []
  places = [{ ch: 'user:1:habits', since: 'e.5' }, { ch: 'team:1:activity' }]
  status = 200
  type = 'text/event-stream; charset=utf-8'
})
afterEach(() => vi.useRealTimers())

describe('a stream', () => {
  it('asks for all that is followed by then, from where it stands', async () => {
    open()
    places.push({ ch: 'team:2:activity' })
    await vi.advanceTimersByTimeAsync(50)
    expect(served).toHaveLength(1)
    expect(served[0]!.url.searchParams.get('channels')).toBe('user:1:habits@e.5,team:1:activity,team:2:activity')
  })

  it('without anything to follow is a connection all the same', async () => {
    places = []
    open()
    await vi.advanceTimersByTimeAsync(50)
    expect(served[0]!.url.search).toBe('?own=1')
  })

  it('says what the server says, in whatever pieces it comes', async () => {
    const wire = open()
    await vi.advanceTimersByTimeAsync(50)
    for (const piece of ['retry: 1500\n\nda', 'ta: {"type":"hello"}\n', '\nid: x\r\ndata:{"a":\r\ndata: 1}\r\n\r\ndata: {"b":"ü"}\n\n'])
      await served[0]!.send(piece)
    expect(got).toEqual([{ type: 'hello' }, { a: 1 }, { b: 'ü' }])
    expect(wire.readyState).toBe(1)
  })

  it('shows by its comments that it is alive', async () => {
    open()
    await vi.advanceTimersByTimeAsync(50)
    await served[0]!.send(hello)
    await served[0]!.send(':\n\n')
    expect(got).toEqual([{ type: 'hello' }, { type: 'ping' }])
  })

  it('ends as the server says, or else as if it were cut', async () => {
    open()
    await vi.advanceTimersByTimeAsync(50)
    await served[0]!.send(`${hello}data: {"type":"close","code":4505,"reconnect":false}\n\n`)
    expect(closed).toEqual([4505])
    for (const fate of ['end', 'cut'] as const) {
      open()
      await vi.advanceTimersByTimeAsync(50)
      await served.at(-1)!.send(hello)
      await served.at(-1)![fate]()
    }
    expect(closed).toEqual([4505, 1006, 1006])
  })

  it.each([
    [204, 4501],
    [401, 4501],
    [400, 4500],
    [403, 4500],
    [429, 4502],
    [503, 1006],
    [502, 1006],
    [0, 1006],
  ])('that is answered by %i ends with %i', async (answer, code) => {
    status = answer
    open()
    await vi.advanceTimersByTimeAsync(50)
    expect(closed).toEqual([code])
  })

  it('is not what some gateway answers in its place', async () => {
    type = 'text/html'
    open()
    await vi.advanceTimersByTimeAsync(50)
    expect(closed).toEqual([1006])
  })

  it('of which no more is wanted ends without a word', async () => {
    const wire = open()
    await vi.advanceTimersByTimeAsync(50)
    await served[0]!.send(hello)
    wire.close()
    await settled()
    expect(served[0]!.aborted()).toBe(true)
    expect(closed).toEqual([])
  })
})

describe('what is followed later', () => {
  it('comes by another stream, and the old one is read until that has begun', async () => {
    const wire = open()
    await vi.advanceTimersByTimeAsync(50)
    await served[0]!.send(hello)
    // What it follows already is no reason.
    wire.send(JSON.stringify({ type: 'subscribe', channels: [{ ch: 'team:1:activity' }] }))
    wire.send('{"type":"pong"}')
    await vi.advanceTimersByTimeAsync(1000)
    expect(served).toHaveLength(1)

    places = [{ ch: 'user:1:habits', since: 'e.7' }, { ch: 'team:1:activity' }, { ch: 'team:2:activity', since: 'e.2' }]
    wire.send(JSON.stringify({ type: 'subscribe', channels: [{ ch: 'team:2:activity', since: 'e.2' }] }))
    await vi.advanceTimersByTimeAsync(50)
    expect(served[1]!.url.searchParams.get('channels')).toBe('user:1:habits@e.7,team:1:activity,team:2:activity@e.2')
    await served[0]!.send('data: {"n":1}\n\n')
    expect(served[0]!.aborted()).toBe(false)
    await served[1]!.send(hello)
    expect(served[0]!.aborted()).toBe(true)
    await served[1]!.send('data: {"n":2}\n\n')
    expect(got).toEqual([{ type: 'hello' }, { n: 1 }, { type: 'hello' }, { n: 2 }])
    expect(closed).toEqual([])
  })
})
