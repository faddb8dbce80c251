import { Channel } from './channel'
import { afterClose, backoff } from './close'
import type { Listener, Live, OnPeople, Status } from './live'
import { People } from './people'
import { type Control, type Event, isEvent, parseFrame } from './protocol'
import { Seen } from './seen'
import { type Place, type Way, Ways, type Wire } from './wire'

/** One connection, old or new: during a drain there are two. */
type Link = {
  ws: Wire | WebSocket
  way: Way
  greeted: boolean
  /** channels asked for and not yet confirmed */
  pending: Set<string>
  /** channels asked for on this link */
  asked: Set<string>
  watchdog: ReturnType<typeof setTimeout> | undefined
  quiet: number
}

/** How long a connection that is doubted has to answer, in ms. */
const soon = 5000

export type Options = {
  url: () => string
  open?: (url: string) => Wire | WebSocket
  /** Opens a stream, where sockets are blocked; missing: there are none. */
  stream?: ((places: () => Place[]) => Wire | WebSocket) | undefined
  random?: () => number
}

/** A connection of one's own for live updates: of a page, or of the worker that all pages share. */
export class Realtime implements Live {
  readonly #options: Options & Required<Pick<Options, 'open' | 'random'>>
  readonly #channels = new Map<string, Channel>()
  readonly #people = new Map<string, People>()
  readonly #seen = new Seen()
  readonly #watchers = new Set<() => void>()
  #status: Status = { phase: 'idle', degraded: false, failures: 0 }
  #link: Link | undefined
  #successor: Link | undefined
  #retry: ReturnType<typeof setTimeout> | undefined
  #handover: ReturnType<typeof setTimeout> | undefined
  #ways = new Ways()
  /** until a socket is tried beside a stream */
  #trial: ReturnType<typeof setTimeout> | undefined
  #requests = 0
  /** how far the server's clock is ahead of this one */
  #skew = 0

  constructor(options: Options) {
    this.#options = { open: (url) => new WebSocket(url), random: Math.random, ...options }
  }

  status = (): Status => this.#status

  watch = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher)
    return () => {
      this.#watchers.delete(watcher)
    }
  }

  start(): void {
    if (this.#status.phase === 'idle' || this.#status.phase === 'ended') this.#connect()
  }

  /** Disconnects and forgets every position: the next start is another person's. */
  stop(): void {
    clearTimeout(this.#retry)
    clearTimeout(this.#handover)
    clearTimeout(this.#trial)
    this.#handover = this.#trial = undefined
    for (const link of [this.#link, this.#successor]) if (link) this.#drop(link)
    this.#link = this.#successor = undefined
    for (const channel of this.#channels.values()) channel.forget()
    for (const people of this.#people.values()) people.forget()
    this.#set({ phase: 'idle', degraded: false, failures: 0 })
  }

  end(): void {
    this.stop()
  }

  nudge(): void {
    if (this.#status.phase === 'waiting' || this.#status.phase === 'ended') this.#connect()
    const link = this.#link
    if (!link?.greeted || link.way === 'stream') return
    // The network may have left under it, in sleep or on the way to another one: it has to show that it lives.
    this.#send(link, { type: 'ping' })
    this.#guard(link, soon)
  }

  follow(name: string, since: string | undefined, listener: Listener): () => void {
    let channel = this.#channels.get(name)
    if (!channel) {
      channel = new Channel(since)
      this.#channels.set(name, channel)
    }
    const stop = channel.add(since, listener)
    for (const link of [this.#link, this.#successor]) {
      if (link?.greeted && !link.asked.has(name)) this.#subscribe(link, [name])
    }
    return () => {
      stop()
      // A moment later: a page that follows the same channel may be on its way in.
      setTimeout(() => this.#leave(name, channel), 1000)
    }
  }

  people(name: string, onPeople: OnPeople): () => void {
    return this.#peopleOf(name).listen(onPeople)
  }

  #peopleOf(name: string): People {
    let people = this.#people.get(name)
    if (!people) {
      people = new People()
      this.#people.set(name, people)
    }
    return people
  }

  #leave(name: string, channel: Channel) {
    if (!channel.empty || this.#channels.get(name) !== channel) return
    this.#channels.delete(name)
    this.#people.get(name)?.forget()
    for (const link of [this.#link, this.#successor]) {
      if (link?.asked.delete(name)) this.#send(link, { type: 'unsubscribe', channels: [name] })
    }
  }

  #connect() {
    clearTimeout(this.#retry)
    this.#set({ ...this.#status, phase: 'connecting' })
    this.#link = this.#open(this.#options.stream ? this.#ways.next() : 'socket')
  }

  #open(way: Way): Link {
    const { open, stream, url } = this.#options
    const ws = way === 'stream' && stream ? stream(() => this.#places([...this.#channels.keys()])) : open(url())
    const link: Link = { ws, way, greeted: false, pending: new Set(), asked: new Set(), watchdog: undefined, quiet: 20_000 }
    ws.onmessage = ({ data }: { data: unknown }) => {
      if (typeof data === 'string') this.#receive(link, data)
    }
    ws.onclose = ({ code }: { code: number }) => {
      if (!link.greeted && way === 'socket' && afterClose(code).again) this.#ways.fails(false)
      this.#closed(link, code)
    }
    this.#guard(link)
    return link
  }

  /** A connection on which nothing comes any more is as good as cut. */
  #guard(link: Link, quiet = link.quiet) {
    clearTimeout(link.watchdog)
    link.watchdog = setTimeout(() => {
      this.#drop(link)
      if (!link.greeted && link.way === 'socket') this.#ways.fails(true)
      this.#closed(link, 1006)
    }, quiet)
  }

  #receive(link: Link, text: string) {
    this.#guard(link)
    const frame = parseFrame(text)
    if (!frame) return
    if (isEvent(frame)) this.#deliver(frame)
    else this.#control(link, frame)
  }

  #deliver(event: Event) {
    const channel = this.#channels.get(event.channel)
    if (!channel || !this.#seen.first(`${event.channel} ${event.id}`)) return
    channel.deliver({ ...event, received: event.received + this.#skew, skew: this.#skew })
  }

  #control(link: Link, frame: Control) {
    switch (frame.type) {
      case 'hello':
        link.greeted = true
        this.#ways.works(link.way)
        // Too little by the way that the greeting took, which is about that of an event.
        if (frame.now_ms !== undefined) this.#skew = frame.now_ms - Date.now()
        link.quiet = frame.ping_ms * 1.5 + 10_000
        this.#guard(link)
        if (link === this.#link) {
          this.#set({ phase: 'open', degraded: this.#status.degraded, failures: 0, ...over(link) })
          this.#tryLater()
        }
        this.#subscribe(link, [...this.#channels.keys()])
        this.#promote(link)
        break
      case 'subscribed': {
        // Where a position was given, what was missed is still to come.
        this.#channels.get(frame.ch)?.confirm(frame.offset)
        link.pending.delete(frame.ch)
        this.#promote(link)
        break
      }
      case 'reset': {
        const channel = this.#channels.get(frame.ch)
        if (!channel) break
        link.pending.delete(frame.ch)
        channel.reset(frame.offset || undefined)
        this.#promote(link)
        break
      }
      case 'presence':
        if (!this.#channels.has(frame.ch)) break
        if (frame.users) this.#peopleOf(frame.ch).all(frame.users)
        else this.#peopleOf(frame.ch).change(frame.joined, frame.left)
        break
      case 'ping':
        this.#send(link, { type: 'pong' })
        break
      case 'status':
        this.#set({ ...this.#status, degraded: frame.status === 'degraded' })
        break
      case 'drain':
        if (link === this.#link) this.#drain(frame.reconnect_after_ms)
        break
      case 'error':
        this.#refused(link, frame)
        break
    }
  }

  /** The server did not take a subscription: later if it said when, else not on this link. */
  #refused(link: Link, frame: Extract<Control, { type: 'error' }>) {
    if (frame.ch) link.pending.delete(frame.ch)
    else link.pending.clear()
    this.#promote(link)
    // No right to it (any more): what the page shows of it is asked for again, and refused there.
    if (frame.code === 'forbidden') {
      this.#people.get(frame.ch)?.forget()
      this.#channels.get(frame.ch)?.reload()
    }
    if (frame.ch && frame.retry_after_ms > 0) {
      setTimeout(() => {
        if (this.#channels.has(frame.ch) && this.#link === link) this.#subscribe(link, [frame.ch])
      }, frame.retry_after_ms)
    }
  }

  #subscribe(link: Link, names: string[]) {
    if (names.length === 0) return
    for (const name of names) {
      link.asked.add(name)
      link.pending.add(name)
    }
    this.#send(link, {
      type: 'subscribe',
      id: String(++this.#requests),
      channels: this.#places(names),
    })
  }

  #places(names: string[]): Place[] {
    return names.map((ch) => {
      const since = this.#channels.get(ch)?.since
      return since === undefined ? { ch } : { ch, since }
    })
  }

  /** The server is going away: be on another one before this one is gone. */
  #drain(after: number) {
    if (this.#successor || this.#handover) return
    this.#handover = setTimeout(() => {
      this.#handover = undefined
      if (this.#link && !this.#successor) this.#successor = this.#open(this.#link.way)
    }, after)
  }

  /** On a stream: finds out whether sockets get through by now. */
  #tryLater() {
    clearTimeout(this.#trial)
    this.#trial = undefined
    if (this.#link?.way !== 'stream') return
    this.#trial = setTimeout(() => {
      if (this.#link?.way !== 'stream') return
      if (this.#successor || this.#handover) this.#tryLater()
      else this.#successor = this.#open('socket')
    }, this.#ways.trial(this.#options.random))
  }

  /** The new connection has caught up with everything: let go of the old one. */
  #promote(link: Link) {
    if (link !== this.#successor || !link.greeted || link.pending.size > 0) return
    const old = this.#link
    this.#link = link
    this.#successor = undefined
    if (old) this.#drop(old)
    this.#set({ phase: 'open', degraded: this.#status.degraded, failures: 0, ...over(link) })
    this.#tryLater()
  }

  #closed(link: Link, code: number) {
    clearTimeout(link.watchdog)
    if (link === this.#successor) {
      // The old one still stands; when it falls, the usual way back begins.
      this.#successor = undefined
      if (!this.#link) this.#wait(code)
      else this.#tryLater()
      return
    }
    if (link !== this.#link) return
    this.#link = undefined
    clearTimeout(this.#handover)
    this.#handover = undefined
    if (this.#successor) {
      this.#link = this.#successor
      this.#successor = undefined
      this.#set({ phase: this.#link.greeted ? 'open' : 'connecting', degraded: this.#status.degraded, failures: 0, ...over(this.#link) })
      this.#tryLater()
      return
    }
    this.#wait(code)
  }

  #wait(code: number) {
    const next = afterClose(code)
    if (!next.again) {
      this.#set({ phase: 'ended', ended: next.reason, degraded: false, failures: this.#status.failures })
      return
    }
    const failures = Math.max(this.#status.failures, next.failures)
    this.#set({ phase: 'waiting', degraded: this.#status.degraded, failures: failures + 1 })
    this.#retry = setTimeout(() => this.#connect(), backoff(failures, this.#options.random))
  }

  #send(link: Link, frame: object) {
    if (link.ws.readyState === 1) link.ws.send(JSON.stringify(frame))
  }

  #drop(link: Link) {
    clearTimeout(link.watchdog)
    link.ws.onmessage = link.ws.onclose = null
    link.ws.close(1000)
  }

  #set(status: Status) {
    const now = this.#status
    if (
      now.phase === status.phase &&
      now.degraded === status.degraded &&
      now.ended === status.ended &&
      now.failures === status.failures &&
      now.blocked === status.blocked
    )
      return
    this.#status = status
    for (const watcher of [...this.#watchers]) watcher()
  }
}

/** What of a status a connection makes so. */
function over(link: Link): Pick<Status, 'blocked'> {
  return link.greeted && link.way === 'stream' ? { blocked: true } : {}
}
